"""Who is next: fair over organizations, by priority with ageing, one head per record, bounded by the pace.

`claim` runs under the connection's advisory lock, so there is one pump per connection however many workers ring it.
A claim takes lease and epoch only; nothing counts as sent before `delivery.start`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection as database
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Now

from pems_sync import crashpoints, dispatch, events
from pems_sync.clock import database_now
from pems_sync.journal import MOST_ENTRIES, UnitOfWork, unit_of_work
from pems_sync.models import Connection, Modification, Organization
from pems_sync.services.transitions import subject
from pems_sync.states import State

CLAIM_HORIZON_SECONDS = 0.5
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
        requests = _free_requests(connection, work.now)
        claims = [] if requests <= 0 else _allot(connection, requests, work.now)
        for each in claims:
            _take(work, each)
        return claims


def _anything_due(connection_id: int) -> bool:
    rows = Modification.objects.filter(organization__connection=connection_id, organization__paused_at=None)
    return rows.sendable(Now()).exists()


def may_send(connection: Connection, now: datetime | None = None) -> bool:
    """Neither switched off, nor paused, nor resting."""
    return bool(settings.ENABLE_WRITE_SYNC) and may_read(connection, now)


def may_read(connection: Connection, now: datetime | None = None) -> bool:
    """Neither paused, nor resting: refused credentials are not tried again and again by reads either."""
    if connection.paused_at is not None:
        return False
    return connection.held_until is None or connection.held_until <= (now or database_now())


def _take_turn(connection_id: int) -> None:
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK_SPACE, connection_id])


def _free_requests(connection: Connection, now: datetime) -> int:
    """How many more requests may be published. After a fault in a row only one: a canary."""
    by_pace = max(1, math.ceil(connection.requests_per_second * CLAIM_HORIZON_SECONDS))
    allowed = 1 if connection.fault_streak > 1 else by_pace
    waiting = Modification.objects.filter(
        organization__connection=connection, state=State.SENDING, started_at=None, lease_until__gt=now
    )
    return allowed - waiting.values("delivery_id").distinct().count()


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
    due = Modification.objects.filter(organization=OuterRef("pk")).sendable(now)
    rows = Organization.objects.filter(connection=connection, paused_at=None).filter(Exists(due))
    return list(rows.order_by(F("claimed_at").asc(nulls_first=True), "pk")[:most])


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
    due = Modification.objects.filter(organization=OuterRef("pk")).sendable(Now())
    organizations = Organization.objects.filter(paused_at=None).filter(Exists(due))
    willing = organizations.filter(Q(connection__paused_at=None)).order_by().values_list("connection_id", flat=True)
    return list(willing.distinct())
