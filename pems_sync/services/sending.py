"""Before a request: what a claim holds, the fenced start that writes the attempts, and the fence of every finish."""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog

from pems_sync import events
from pems_sync.client.base import Write
from pems_sync.journal import deadlock_retried, unit_of_work
from pems_sync.models import Attempt, Modification
from pems_sync.services.moves import Moves
from pems_sync.services.transitions import bury, subject
from pems_sync.states import IN_FLIGHT, DeadReason, State

log = structlog.get_logger(__name__)

LEASE_MARGIN_SECONDS = 5.0
CERTAIN, POSSIBLE, QUARANTINE_AT = 2, 1, 4
"""Weights of a crash: the worker lived to tell that this edit killed its child, or the worker died altogether, of whatever.
Two certain crashes quarantine an edit (D7); `kill -9` of a worker that happened to hold it, far less easily."""

_identity: tuple[int, str] = (0, "")


def worker_identity() -> str:
    """Random per process, also after a fork: two workers are never taken for one."""
    global _identity
    if _identity[0] != os.getpid():
        _identity = (os.getpid(), f"{socket.gethostname()[:30]}-{os.getpid()}-{uuid4().hex[:8]}")
    return _identity[1]


def held_rows(delivery_id: UUID) -> list[Modification]:
    """What a claim still holds and has not started: nothing, for a message delivered twice (D2)."""
    rows = Modification.objects.filter(delivery_id=delivery_id, state=State.SENDING, started_at=None)
    return list(rows.select_related("author", "authorised_by", "organization__connection").order_by("rank_at"))


@deadlock_retried
def start(rows: Sequence[Modification], writes: Sequence[Write], *, total_seconds: float) -> dict[UUID, Attempt]:
    """Write down the attempts of exactly these rows and renew their lease beyond the request's total deadline.

    Fenced: rows whose lease was given away meanwhile are left out. Returns the attempt of each row that may be sent.
    """
    wanted = {row.pk: (row, write) for row, write in zip(rows, writes, strict=True)}
    with unit_of_work() as work:
        free = Modification.objects.locked(wanted).filter(state=State.SENDING, started_at=None)
        held = {key for key, epoch in free.values_list("pk", "lease_epoch") if epoch == wanted[key][0].lease_epoch}
        attempts = [_attempt(*wanted[key], batch_of=len(held), now=work.now) for key in wanted if key in held]
        Attempt.objects.bulk_create(attempts)
        lease = work.now + timedelta(seconds=total_seconds + LEASE_MARGIN_SECONDS)
        Modification.objects.filter(pk__in=held).update(started_at=work.now, lease_until=lease)
        for row in (row for row in rows if row.pk in held):
            row.started_at, row.lease_until = work.now, lease
            work.record(events.DeliveryStarted(**subject(row, "worker")))
    return {attempt.modification_id: attempt for attempt in attempts}


def _attempt(row: Modification, write: Write, *, batch_of: int, now: datetime) -> Attempt:
    return Attempt(
        modification=row,
        epoch=row.lease_epoch,
        delivery_id=row.delivery_id or uuid4(),
        version_sent=write.version,
        idempotency_key=write.idempotency_key,
        request={"operation": write.operation, "changes": write.changes, "modifiedBy": write.modified_by},
        batch_of=batch_of,
        worker=worker_identity(),
        started_at=now,
    )


def renew_lease(rows: Sequence[Modification], *, total_seconds: float) -> None:
    """Reading back after the answer takes time; the rows stay ours meanwhile. One statement for all that share an epoch."""
    leases: dict[tuple[str, int], list[UUID]] = defaultdict(list)
    for row in rows:
        leases[row.state, row.lease_epoch].append(row.pk)
    with unit_of_work() as work:
        until = work.now + timedelta(seconds=total_seconds + LEASE_MARGIN_SECONDS)
        for (state, epoch), ids in leases.items():
            mine = Modification.objects.filter(pk__in=ids, state=state, lease_epoch=epoch)
            mine.update(lease_until=until)


def still_ours(
    claimed: Sequence[Modification], fresh: Mapping[UUID, Modification], states: frozenset[State] = IN_FLIGHT
) -> list[Modification]:
    """The rows as they are now, without those whose lease was given away: a stale finish is counted and changes
    nothing (D4, I5). `fresh`: locked, by id."""
    kept = [fresh[row.pk] for row in claimed if row.pk in fresh and _same_lease(fresh[row.pk], row, states)]
    if len(kept) < len(claimed):
        log.warning("stale_finish", rows=len(claimed) - len(kept))
    return kept


def _same_lease(fresh: Modification, claimed: Modification, states: frozenset[State]) -> bool:
    """A message that came twice has two holders of one epoch; what one of them started is not the other's (D2)."""
    started_alike = fresh.state != State.SENDING or fresh.started_at == claimed.started_at
    return fresh.state in states and fresh.lease_epoch == claimed.lease_epoch and started_alike


def count_crash(moves: Moves, row: Modification, *, what: str, weight: int = CERTAIN) -> bool:
    """A worker died, or stumbled, with this row in hand. Until it is quarantined it travels alone, so that it cannot take
    others along. Whether it was buried."""
    row.crashes += weight
    row.batch_limit = 1
    moves.keep(row)
    if row.crashes < QUARANTINE_AT:
        return False
    message = f"It stopped workers again and again ({what}). It waits for a person, and its record's lane with it."
    bury(moves, row, reason=DeadReason.POISON, code="POISON", message=message, actor="worker")
    return True
