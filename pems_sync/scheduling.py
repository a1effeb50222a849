"""Who is next: fair over organizations, by priority with ageing, one head per record, bounded by the pace.

`claim` runs under the connection's advisory lock, so there is one pump per connection however many workers ring it.
A claim takes lease and epoch only; nothing counts as sent before `delivery.start`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection as database
from django.db.models import F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Now

from pems_sync import crashpoints, dispatch, events, maintenance
from pems_sync.client.breaker import risk
from pems_sync.client.connect import pace_for
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.clock import database_now
from pems_sync.journal import MOST_ENTRIES, UnitOfWork, unit_of_work
from pems_sync.models import Connection, Modification, Organization
from pems_sync.models.modification import Operation
from pems_sync.models.organization import Breaker
from pems_sync.services import breaking
from pems_sync.services.transitions import subject
from pems_sync.states import State

CLAIM_HORIZON_SECONDS = 0.5
CANARY_LANES, CANARY_CHOICE = 100, 500
"""Organizations, and edits of theirs, among which a canary is looked for."""
_LOCK_SPACE = 0x70656D73  # "pems": advisory locks of this project


@dataclass(frozen=True)
class Claim:
    """The rows of one request, all of one organization."""

    delivery_id: UUID
    rows: list[Modification]

    @property
    def shown(self) -> str:
        """What support reads in Flower."""
        first, more = self.rows[0], f" +{len(self.rows) - 1}" if len(self.rows) > 1 else ""
        return f"{first.organization.code} {first.pfa_id}{more} · {first.reason or 'no reason given'}"[:120]


def pump(connection_id: int) -> int:
    """Claim what the pace allows in the next half second and ring a worker per request. How many requests."""
    crashpoints.reached("before_claim")
    claims = claim(connection_id)
    crashpoints.reached("after_claim", *(row.pfa_id for each in claims for row in each.rows))
    for each in claims:
        dispatch.deliver(each.delivery_id, shown=each.shown)
    return len(claims)


def claim(connection_id: int) -> list[Claim]:
    if not _anything_due(connection_id):  # most bells find nothing: one query then, and no lock
        return []
    with unit_of_work() as work:
        _take_turn(connection_id)
        connection = Connection.objects.get(pk=connection_id)
        if not may_send(connection, work.now):
            return []
        if breaking.state_of(connection) is Breaker.CLOSED:
            requests = _free_requests(connection, work.now)
            claims = [] if requests <= 0 else _allot(connection, requests, work.now)
        else:
            claims = _canary(connection, work.now)
        for each in claims:
            _take(work, each)
        return claims


def _anything_due(connection_id: int) -> bool:
    return _with_something_due(_willing().filter(connection=connection_id), Now()).exists()


def _willing() -> QuerySet[Organization]:
    """Neither paused, nor restored from a backup and not yet compared with PEMS."""
    return Organization.objects.filter(paused_at=None, restored_at=None)


def anything_to_send(connection: Connection) -> bool:
    """Something is due, and nothing but the connection itself could keep it back."""
    return bool(settings.ENABLE_WRITE_SYNC) and _anything_due(connection.pk)


def may_send(connection: Connection, now: datetime | None = None, *, delivery_id: UUID | None = None) -> bool:
    """Neither switched off, nor paused, nor resting, in no maintenance window, and the breaker lets it through.
    `delivery_id`: of what is claimed already, which an open breaker lets through as its canary only."""
    return bool(settings.ENABLE_WRITE_SYNC) and _may_go(connection, now, delivery_id)


def may_read(connection: Connection, now: datetime | None = None) -> bool:
    """Neither paused, nor resting, in no maintenance window: refused credentials are not tried again and again by reads
    either. While the breaker is open: whether it is time for a canary. Each read asks once more right before it (Turns)."""
    return _may_go(connection, now, None)


def _may_go(connection: Connection, now: datetime | None, canary: UUID | None) -> bool:
    now = now or database_now()
    if connection.paused_at is not None or (connection.held_until is not None and connection.held_until > now):
        return False
    if maintenance.window_now(connection, now) is not None:
        return False
    return breaking.lets_through(connection, now, canary=canary)


def _take_turn(connection_id: int) -> None:
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK_SPACE, connection_id])


def _free_requests(connection: Connection, now: datetime) -> int:
    """How many more requests may be published: what the pace allows now, which may be less than the limit (D11)."""
    try:
        by_pace = max(1, math.ceil(pace_for(connection).rate() * CLAIM_HORIZON_SECONDS))
    except PaceUnavailableError:
        return 0  # nothing could be sent
    waiting = Modification.objects.filter(
        organization__connection=connection, state=State.SENDING, started_at=None, lease_until__gt=now
    )
    return by_pace - waiting.values("delivery_id").distinct().count()


def _canary(connection: Connection, now: datetime) -> list[Claim]:
    """While the breaker is not closed: of what is due, the edit with the least risk, alone. Nothing where somebody else was
    quicker."""
    row = _least_risky(connection, now)
    if row is None:
        return []
    alone = Claim(uuid4(), [row])
    taken = breaking.take_canary(connection, alone.delivery_id, patience_seconds=settings.CLAIM_LEASE_SECONDS)
    return [alone] if taken else []


def _least_risky(connection: Connection, now: datetime) -> Modification | None:
    lanes = _organizations(connection, CANARY_LANES, now)
    due = Modification.objects.filter(organization__in=lanes).sendable(now)
    columns = ("pk", "exposed", "operation", "changes", "queued_at")
    choice = list(due.order_by("rank_at").values_list(*columns)[:CANARY_CHOICE])
    if not choice:
        return None
    key, *_ = min(choice, key=_risk)
    rows = due.filter(pk=key).select_related("author", "organization")
    return rows.select_for_update(skip_locked=True, of=("self",)).first()


def _risk(columns: tuple[Any, ...]) -> Any:
    _, exposed, operation, changes, queued_at = columns
    return risk(exposed=exposed, is_delete=operation == Operation.DELETE, changes=changes, queued_at=queued_at)


def _allot(connection: Connection, requests: int, now: datetime) -> list[Claim]:
    """Round robin: each organization with something to send gets one request before any gets a second."""
    size = _batch_size(connection, now)
    lanes = {org: _due(org, requests * size, now) for org in _organizations(connection, requests, now)}
    lanes = {org: rows for org, rows in lanes.items() if rows}
    shares = dict.fromkeys(lanes, 0)
    while requests > 0 and any(shares[org] < len(rows) for org, rows in lanes.items()):
        for org, rows in lanes.items():
            if requests > 0 and shares[org] < len(rows):
                shares[org] += 1
                requests -= 1
    return _bounded([each for org, rows in lanes.items() for each in _batches(rows, shares[org], size)])


def _bounded(claims: list[Claim]) -> list[Claim]:
    """As many as one transaction may journal. The organizations left out are the longest unserved next time."""
    taken = accumulate(len(each.rows) for each in claims)
    return [each for each, rows in zip(claims, taken, strict=True) if rows <= MOST_ENTRIES]


def _organizations(connection: Connection, most: int, now: datetime) -> list[Organization]:
    """Those with something due, the longest unserved first."""
    rows = _with_something_due(_willing().filter(connection=connection), now)
    return list(rows.order_by(F("claimed_at").asc(nulls_first=True), "pk")[:most])


def _with_something_due(organizations: QuerySet[Organization], now: datetime | Now) -> QuerySet[Organization]:
    """One probe of the index `mod_claim` for each. With EXISTS the database would read the whole queue instead (F8)."""
    first = Modification.objects.filter(organization=OuterRef("pk")).sendable(now).order_by("rank_at")
    return organizations.alias(first_rank_at=Subquery(first.values("rank_at")[:1])).filter(first_rank_at__isnull=False)


def _due(organization: Organization, most: int, now: datetime) -> list[Modification]:
    rows = Modification.objects.for_organization(organization).sendable(now).order_by("rank_at")
    return list(rows.select_related("author", "organization").select_for_update(skip_locked=True, of=("self",))[:most])


def _batch_size(connection: Connection, now: datetime) -> int:
    absent = connection.batch_absent_until is not None and connection.batch_absent_until > now
    return 1 if absent else min(connection.batch_size, int(settings.WRITE_SYNC_BATCH_SIZE))


def _batches(rows: list[Modification], requests: int, largest: int) -> list[Claim]:
    """Spread the rows over the requests: singles while they fit, batches of up to `largest` with a backlog. Rows that
    were in a refused batch or a crash keep to their own limit."""
    size = min(largest, math.ceil(len(rows) / requests))
    claims: list[Claim] = []
    for row in rows:
        room = min(size, row.batch_limit or size)
        last = claims[-1] if claims else None
        if last is not None and len(last.rows) < min(room, last.rows[0].batch_limit or size):
            last.rows.append(row)
        elif len(claims) < requests:
            claims.append(Claim(uuid4(), [row]))
        else:
            break
    return claims


def _take(work: UnitOfWork, each: Claim) -> None:
    """QUEUED → SENDING: lease and epoch, nothing else."""
    Modification.objects.filter(pk__in=[row.pk for row in each.rows]).update(
        state=State.SENDING,
        delivery_id=each.delivery_id,
        lease_epoch=F("lease_epoch") + 1,
        lease_until=work.now + timedelta(seconds=settings.CLAIM_LEASE_SECONDS),
        started_at=None,
    )
    Organization.objects.filter(pk=each.rows[0].organization_id).update(claimed_at=work.now)
    for row in each.rows:
        work.record(
            events.DeliveryClaimed(
                **subject(row, "scheduler"), before={"state": State.QUEUED}, after={"state": State.SENDING}
            )
        )


def due_connections() -> list[int]:
    """Connections with something to send now: the sweep rings for them."""
    ready = breaking.letting_through(Now(), prefix="connection__")
    willing = _with_something_due(_willing(), Now()).filter(ready, connection__paused_at=None).order_by()
    return list(willing.values_list("connection_id", flat=True).distinct())
