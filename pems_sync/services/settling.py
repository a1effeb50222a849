"""After a request: one outcome per row becomes its next state. Confirmed rows first, in their own transaction; each other
row under its own savepoint, so that a bad one never takes 99 applied ones back with it (PROTOCOL.md, Outcomes)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import assert_never
from uuid import UUID

from django.conf import settings

from pems_sync import crashpoints
from pems_sync.client.base import Busy, Confirmed, Fault, Gone, PemsRecord, Rejected, Reply, Unknown
from pems_sync.journal import deadlock_retried, unit_of_work
from pems_sync.models import Attempt, Modification
from pems_sync.models.attempt import OutcomeKind
from pems_sync.retry import RetryPolicy
from pems_sync.services.moves import Moves
from pems_sync.services.rebasing import advance
from pems_sync.services.settlement import Note, Settlement, bury_record, in_portions
from pems_sync.services.transitions import alone, bury, requeue, retry_later, suspect
from pems_sync.states import IN_FLIGHT, DeadReason


def retry_policy() -> RetryPolicy:
    return RetryPolicy(settings.WRITE_SYNC_MAX_RETRIES, settings.WRITE_SYNC_RETRY_DELAY)


def notes_of(reply: Reply, rows: Sequence[Modification], attempts: Mapping[UUID, Attempt]) -> dict[UUID, Note]:
    excerpts = reply.excerpts if len(reply.excerpts) == len(rows) else (*reply.excerpts[:1],) * len(rows)
    return {
        row.pk: Note(attempts[row.pk], reply.status, reply.milliseconds, excerpts[position] if excerpts else None)
        for position, row in enumerate(rows)
    }


@in_portions
def settle_confirmed(pairs: Sequence[tuple[Modification, Confirmed]], notes: Mapping[UUID, Note]) -> None:
    """PEMS has them. The stored records follow, their lanes advance, the next heads are named."""
    pfa_ids = [row.pfa_id for row, _ in pairs]
    with unit_of_work() as work:
        settlement = Settlement.open(work, [row for row, _ in pairs])
        answers = {row.pk: answer for row, answer in pairs}
        for row in settlement.mine:
            settlement.confirm(row, answers[row.pk])
            settlement.note(notes[row.pk], OutcomeKind.CONFIRMED)
        settlement.close()
        crashpoints.reached("before_settle_commit", *pfa_ids)
    crashpoints.reached("after_settle_commit", *pfa_ids)


Refusal = Rejected | Busy | Unknown


@in_portions
def settle_refused(pairs: Sequence[tuple[Modification, Refusal]], notes: Mapping[UUID, Note]) -> None:
    """Everything that needs no look at PEMS: rejected, busy, unknown."""
    with unit_of_work() as work:
        settlement = Settlement.open(work, [row for row, _ in pairs])
        outcomes = {row.pk: outcome for row, outcome in pairs}
        for row in settlement.mine:
            _refuse(settlement, row, outcomes[row.pk], notes[row.pk])
        settlement.close()


def _refuse(settlement: Settlement, row: Modification, outcome: Refusal, note: Note) -> None:
    moves, now = settlement.moves, settlement.work.now
    match outcome:
        case Rejected(code, message, at_field):
            settlement.note(note, OutcomeKind.REJECTED, message)
            bury(moves, row, reason=DeadReason.REJECTED, code=code, message=message, at_field=at_field, actor="PEMS")
        case Busy(message, wait):
            settlement.note(note, OutcomeKind.BUSY, message)
            burn(moves, row, error=message, retry_after_seconds=wait)
        case Unknown(cause):
            settlement.note(note, OutcomeKind.UNKNOWN, cause)
            suspect(moves, row, cause=cause, read_at=now + timedelta(seconds=settings.PROOF_DELAYS[0]), actor="worker")
        case _:
            assert_never(outcome)


def burn(
    moves: Moves, row: Modification, *, error: str, retry_after_seconds: float | None = None, burnt: bool = True
) -> None:
    """An attempt is used up: wait for the next, or give up. `burnt` False: it is not, and waits as long."""
    policy = retry_policy()
    row.attempts += burnt
    if burnt and policy.exhausted(row.attempts):
        bury(moves, row, reason=DeadReason.EXHAUSTED, code="EXHAUSTED", message=error, actor="worker")
        return
    at = policy.next_at(attempts=row.attempts, now=moves.work.now, retry_after_seconds=retry_after_seconds)
    retry_later(moves, row, at=at, error=error, actor="worker")


@in_portions
def settle_fault(
    rows: Sequence[Modification], fault: Fault, notes: Mapping[UUID, Note], *, wait_seconds: float
) -> None:
    """The connection's trouble: the rows wait, nothing is burnt."""
    with unit_of_work() as work:
        settlement = Settlement.open(work, rows)
        for row in settlement.mine:
            settlement.note(notes[row.pk], OutcomeKind.FAULT, fault.message)
            at = work.now + timedelta(seconds=wait_seconds)
            retry_later(settlement.moves, row, at=at, error=fault.message, actor="worker")
        settlement.close()


@in_portions
def settle_split(rows: Sequence[Modification], notes: Mapping[UUID, Note], *, why: str, largest: int | None) -> None:
    """A batch refused as a whole: nothing was executed. Its rows go again in batches of at most `largest`."""
    with unit_of_work() as work:
        settlement = Settlement.open(work, rows)
        for row in settlement.mine:
            row.batch_limit = largest or row.batch_limit
            settlement.note(notes[row.pk], OutcomeKind.SPLIT, why)
            requeue(settlement.moves, row, actor="worker", why=why)
            settlement.moves.ring(row)
        settlement.close()


@deadlock_retried
def settle_drift(row: Modification, found: PemsRecord | Gone, note: Note | None) -> None:
    """PEMS is elsewhere: store what it shows and compare. A receiver that raises sends this row alone to DEAD(internal)."""
    with unit_of_work() as work:
        settlement = Settlement.open(work, [row])
        for mine in settlement.mine:
            settlement.note(note, OutcomeKind.DRIFT)
            _face(settlement, mine, found)
        settlement.close()


def _face(settlement: Settlement, row: Modification, found: PemsRecord | Gone) -> None:
    record = settlement.record_of(row)
    row.exposed = False
    if isinstance(found, Gone):
        bury_record(record, settlement.work)
    else:
        settlement.shelf.see(record, found)
    if record.deleted_at is None and record.version <= row.expected_version:
        burn(settlement.moves, row, error=f"PEMS refused version {row.expected_version} as stale, yet shows it")
        return
    with alone(settlement.moves, row):
        advance(settlement.moves, row, record, actor="worker")
    if row.state in IN_FLIGHT:  # nothing clashes: go on at the new version
        requeue(
            settlement.moves, row, actor="worker", why=f"PEMS had moved to version {record.version} in other fields"
        )
        settlement.moves.ring(row)


@in_portions
def hand_back(rows: Sequence[Modification], *, why: str, attempts: Mapping[UUID, Attempt] | None = None) -> None:
    """Give up the lease of rows that were certainly not sent. Burns nothing. `attempts`: those already written down."""
    written = attempts or {}
    with unit_of_work() as work:
        settlement = Settlement.open(work, rows)
        for row in settlement.mine:
            requeue(settlement.moves, row, actor="worker", why=why)
            if row.pk in written:
                settlement.note(Note(written[row.pk]), OutcomeKind.NOT_SENT, why)
        settlement.close()
