"""After a request: one outcome per row becomes its next state. Confirmed rows first, in their own transaction; each other
row under its own savepoint, so that a bad one never takes 99 applied ones back with it (PROTOCOL.md, Outcomes)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings

from pems_sync import crashpoints, events
from pems_sync.client.base import Busy, Confirmed, Fault, Gone, PemsRecord, Rejected, Reply, Unknown
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import Attempt, AttemptOutcome, Modification, Record
from pems_sync.models.attempt import OutcomeKind
from pems_sync.records import Moved, Shelf, shelf_for
from pems_sync.retry import RetryPolicy
from pems_sync.services.progress import report_progress
from pems_sync.services.rebasing import advance, rebase_open
from pems_sync.services.sending import still_ours
from pems_sync.services.transitions import Moves, bury, confirm, lock_lanes, requeue, retry_later, suspect
from pems_sync.states import IN_FLIGHT, DeadReason, State

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Note:
    """What the ledger keeps of an answer."""

    attempt: Attempt
    status: int | None = None
    milliseconds: int | None = None
    response: Any = None


def retry_policy() -> RetryPolicy:
    return RetryPolicy(settings.WRITE_SYNC_MAX_RETRIES, settings.WRITE_SYNC_RETRY_DELAY)


def notes_of(reply: Reply, rows: Sequence[Modification], attempts: Mapping[UUID, Attempt]) -> dict[UUID, Note]:
    excerpts = reply.excerpts if len(reply.excerpts) == len(rows) else (*reply.excerpts[:1],) * len(rows)
    return {
        row.pk: Note(attempts[row.pk], reply.status, reply.milliseconds, excerpts[position] if excerpts else None)
        for position, row in enumerate(rows)
    }


@deadlock_retried
def settle_confirmed(
    pairs: Sequence[tuple[Modification, Confirmed]], notes: Mapping[UUID, Note], *, how: str = "answer"
) -> None:
    """PEMS has them. The stored records follow, their lanes advance, the next heads are named."""
    if not pairs:
        return
    with unit_of_work() as work:
        settlement = Settlement.open(work, [row for row, _ in pairs])
        answers = {row.pk: answer for row, answer in pairs}
        for row in settlement.mine:
            settlement.confirm(row, answers[row.pk], how)
            settlement.note(notes.get(row.pk), OutcomeKind.LANDED if how == "proof" else OutcomeKind.CONFIRMED)
        settlement.close()
        crashpoints.reached("before_settle_commit", *(row.pfa_id for row, _ in pairs))
    crashpoints.reached("after_settle_commit", *(row.pfa_id for row, _ in pairs))


@dataclass
class Settlement:
    """One settling transaction: records locked, then every open row of them, fenced by epoch (I5)."""

    work: UnitOfWork
    moves: Moves
    shelf: Shelf
    lanes: list[Modification]
    mine: list[Modification]
    confirmed: dict[int, Modification] = field(default_factory=dict)
    outcomes: list[AttemptOutcome] = field(default_factory=list)

    @classmethod
    def open(
        cls, work: UnitOfWork, rows: Sequence[Modification], *, states: frozenset[State] = IN_FLIGHT
    ) -> Settlement:
        shelf = shelf_for(row.record_id for row in rows)
        lanes = {row.pk: row for row in lock_lanes(list(shelf.records))}
        mine = still_ours(rows, lanes, states)
        return cls(work, Moves(work), shelf, list(lanes.values()), mine)

    def record_of(self, row: Modification) -> Record:
        return self.shelf.records[row.record_id]

    def confirm(self, row: Modification, answer: Confirmed, how: str) -> None:
        record, shown = self.record_of(row), answer.record
        if shown is not None and shown.version >= answer.new_version:
            self.shelf.see(record, shown, made_by=row.pk)
        else:
            by = row.authorised_by.username
            self.shelf.assume(
                record,
                version=answer.new_version,
                changes=row.changes,
                at=answer.updated_at,
                by=by,
                made_by=row.pk,
                due=self.work.now,
            )
        confirm(self.moves, row, version=answer.new_version, actor="worker", how=how, adjusted=_adjusted(row, shown))
        self.confirmed[record.pk] = row

    def note(self, note: Note | None, kind: OutcomeKind, detail: str = "") -> None:
        """One more line in the ledger of attempts."""
        if note is not None:
            self.outcomes.append(
                AttemptOutcome(
                    attempt=note.attempt, kind=kind, status=note.status, detail=detail[:500], response=note.response,
                    milliseconds=note.milliseconds, at=self.work.now,
                )
            )  # fmt: skip

    def close(self) -> None:
        """Rebase what else is open on these records, save all rows, tell who must know."""
        rebase_open(self.moves, self.shelf.records.values(), self.lanes, actor="worker", confirmed=self.confirmed)
        AttemptOutcome.objects.bulk_create(self.outcomes)
        self.shelf.save()
        tell_of_foreign_changes(self.work, self.shelf.moved, {row.pk: row for row in self.confirmed.values()})
        jobs = {row.job_id for row in self.moves.rows.values() if row.job_id}
        if self.moves.flush():
            self.moves.ring(self.mine[0])
            self.moves.ring_bells()
        report_progress(self.work, jobs)


def tell_of_foreign_changes(work: UnitOfWork, moved: Sequence[Moved], own: Mapping[UUID, Modification]) -> None:
    """RECORD_CHANGED for every field that is not one of our own confirmed changes."""
    for move in moved:
        by = own.get(move.modification_id) if move.modification_id else None
        mine = by.changes if by else {}
        foreign = tuple(name for name in move.changed_fields if name not in mine)
        if foreign:
            work.record(
                events.RecordChanged(
                    organization_id=move.record.organization_id, actor=move.record.changed_by or "PEMS",
                    pfa_id=move.record.pfa_id, new_version=move.record.version, changed_fields=foreign,
                    before={name: move.before.get(name) for name in foreign},
                    after={name: move.record.fields.get(name) for name in foreign},
                )
            )  # fmt: skip


def _adjusted(row: Modification, shown: PemsRecord | None) -> dict[str, Any]:
    """Values PEMS changed while applying, as it shows them."""
    if shown is None:
        return {}
    return {name: shown.fields.get(name) for name, value in row.changes.items() if shown.fields.get(name) != value}


Refusal = Rejected | Busy | Unknown


@deadlock_retried
def settle_refused(pairs: Sequence[tuple[Modification, Refusal]], notes: Mapping[UUID, Note]) -> None:
    """Everything that needs no look at PEMS: rejected, busy, unknown."""
    if not pairs:
        return
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


def burn(moves: Moves, row: Modification, *, error: str, retry_after_seconds: float | None = None) -> None:
    """An attempt is used up: wait for the next, or give up."""
    policy = retry_policy()
    row.attempts += 1
    if policy.exhausted(row.attempts):
        bury(moves, row, reason=DeadReason.EXHAUSTED, code="EXHAUSTED", message=error, actor="worker")
        return
    at = policy.next_at(attempts=row.attempts, now=moves.work.now, retry_after_seconds=retry_after_seconds)
    retry_later(moves, row, at=at, error=error, actor="worker")


@deadlock_retried
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


@deadlock_retried
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
    try:
        with settlement.work.savepoint():
            advance(settlement.moves, row, record, actor="worker")
    except Exception:
        log.exception("settle_failed", modification=str(row.pk))
        row.refresh_from_db()
        bury(settlement.moves, row, reason=DeadReason.INTERNAL, code="INTERNAL", message="A defect of ours stopped this edit. Nothing was lost; retry it when support says so.", actor="worker")  # fmt: skip
        return
    if row.state in ("sending", "unknown"):  # nothing clashes: go on at the new version
        requeue(
            settlement.moves, row, actor="worker", why=f"PEMS had moved to version {record.version} in other fields"
        )
        settlement.moves.ring(row)


def bury_record(record: Record, work: UnitOfWork) -> None:
    """PEMS no longer knows the record: it stays here as a tombstone."""
    if record.deleted_at is None:
        record.deleted_at = work.now
        record.save(update_fields=["deleted_at"])
