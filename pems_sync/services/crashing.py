"""Poison: rows that cannot be encoded, and rows in the hands of workers that died (D3, D7)."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import structlog

from pems_sync.client.base import Write
from pems_sync.clock import database_now
from pems_sync.fields import FIELDS
from pems_sync.journal import deadlock_retried, unit_of_work
from pems_sync.models import Modification
from pems_sync.services.sending import CERTAIN, POSSIBLE, count_crash
from pems_sync.services.settlement import Settlement, in_portions
from pems_sync.services.transitions import requeue, suspect
from pems_sync.states import State

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 200


def encoded(rows: Sequence[Modification]) -> tuple[list[Modification], list[Write]]:
    """Each row as the write it stands for; rows that cannot be encoded are counted as crashes and left out."""
    good: list[tuple[Modification, Write]] = []
    poisoned: list[Modification] = []
    for row in rows:
        try:
            write = write_of(row)
            _ = write.idempotency_key
            good.append((row, write))
        except (KeyError, ValueError, TypeError, ArithmeticError):
            log.exception("not_encodable", modification=str(row.pk))
            poisoned.append(row)
    if poisoned:
        _stumble(poisoned)
    return [row for row, _ in good], [write for _, write in good]


def write_of(row: Modification) -> Write:
    for name, value in row.changes.items():
        FIELDS[name].to_pems(value)
    return Write(
        modification_id=row.pk,
        operation=row.operation,
        pfa_id=row.pfa_id,
        organization_code=row.organization.code,
        version=row.expected_version,
        changes=row.changes,
        modified_by=row.authorised_by.username,
        change_reason=row.reason,
    )


@in_portions
def _stumble(rows: Sequence[Modification]) -> None:
    with unit_of_work() as work:
        settlement = Settlement.open(work, rows)
        for row in settlement.mine:
            if not count_crash(settlement.moves, row, what="it cannot be encoded"):
                requeue(settlement.moves, row, actor="worker", why="it could not be encoded")
        settlement.close()


def expired() -> list[UUID]:
    """Rows whose worker is gone: their lease ran out."""
    rows = Modification.objects.filter(state=State.SENDING, lease_until__lte=database_now())
    return list(rows.order_by("lease_until").values_list("pk", flat=True)[:MOST_AT_ONCE])


def return_expired() -> int:
    """Lease expired without a start → QUEUED; with one → UNKNOWN. How many were looked at."""
    rows = list(Modification.objects.filter(pk__in=expired()))
    _return_some(rows)
    return len(rows)


@in_portions
def _return_some(rows: Sequence[Modification]) -> None:
    with unit_of_work() as work:
        settlement = Settlement.open(work, rows)
        for row in settlement.mine:
            if row.state == State.SENDING and row.lease_until and row.lease_until <= work.now:
                _return(settlement, row, POSSIBLE)
        settlement.close()


@deadlock_retried
def return_lost(delivery_id: UUID) -> int:
    """A worker tells that its child died with this delivery in hand: no need to wait for the lease. How many rows."""
    with unit_of_work() as work:
        rows = Modification.objects.filter(delivery_id=delivery_id, state=State.SENDING)
        settlement = Settlement.open(work, list(rows.select_related("organization", "author")))
        for row in settlement.mine:
            if row.state == State.SENDING:
                _return(settlement, row, CERTAIN)
        settlement.close()
    return len(settlement.mine)


def _return(settlement: Settlement, row: Modification, weight: int) -> None:
    """An expired lease that was never started may only have waited for a busy fleet: that is no crash."""
    moves, started = settlement.moves, row.started_at is not None
    row.exposed = row.exposed or started
    row.lease_epoch += 1  # should the worker wake after all, what it says is stale (D4)
    if (started or weight == CERTAIN) and count_crash(
        moves, row, what="its worker died with it in hand", weight=weight
    ):
        return
    if started:
        cause = "the worker that sent it did not live to tell"
        suspect(moves, row, cause=cause, read_at=settlement.work.now, actor="sweep")
    else:
        requeue(moves, row, actor="sweep", why="its worker did not start it in time")
        moves.ring(row)
