"""One settling transaction: what it locks, what it tells, and how many journal entries it may carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from django.db.models import Count

from pems_sync import events
from pems_sync.client.base import Confirmed
from pems_sync.fields import Values
from pems_sync.journal import MOST_ENTRIES, UnitOfWork, deadlock_retried
from pems_sync.models import Attempt, AttemptOutcome, Modification, Record
from pems_sync.models.attempt import OutcomeKind
from pems_sync.records import Shelf, shelf_for, values_at
from pems_sync.services.adjusting import count_adjusted
from pems_sync.services.moves import Moves, lock_lanes
from pems_sync.services.progress import report_progress
from pems_sync.services.rebasing import is_under_way, rebase_open
from pems_sync.services.sending import still_ours
from pems_sync.services.transitions import confirm
from pems_sync.states import FINAL, IN_FLIGHT, State

_Row = TypeVar("_Row")
_P = ParamSpec("_P")


def in_portions(
    service: Callable[Concatenate[Sequence[_Row], _P], None],
) -> Callable[Concatenate[Sequence[_Row], _P], None]:
    """Carries a service out for as many of its rows at a time as a transaction may hold, each portion again as a whole
    after a lost deadlock. Its first argument: modifications, or pairs that begin with one."""

    @wraps(service)
    def carried_out(rows: Sequence[_Row], /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        for portion in portions(rows, record_id=_record_id, own_entries=2):
            deadlock_retried(service)(portion, *args, **kwargs)

    return carried_out


def _record_id(row: Any) -> int:
    modification: Modification = row[0] if isinstance(row, tuple) else row
    return modification.record_id


def portions(rows: Sequence[_Row], *, record_id: Callable[[_Row], int], own_entries: int) -> Iterator[list[_Row]]:
    """So many rows at a time that settling them writes at most MOST_ENTRIES journal entries: `own_entries` for each row,
    and two for each open modification of its record, which may move as well."""
    if len(rows) == 1:
        yield list(rows)
        return
    ids = {record_id(row) for row in rows}
    counted = Modification.objects.filter(record_id__in=ids).exclude(state__in=sorted(FINAL)).order_by()
    others = dict(counted.values_list("record_id").annotate(Count("pk")))
    portion: list[_Row] = []
    room = MOST_ENTRIES
    for row in rows:
        entries = own_entries + 2 * others.get(record_id(row), 0)
        if portion and entries > room:
            yield portion
            portion, room = [], MOST_ENTRIES
        portion.append(row)
        room -= entries
    if portion:
        yield portion


@dataclass(frozen=True)
class Note:
    """What the ledger keeps of an answer."""

    attempt: Attempt
    status: int | None = None
    milliseconds: int | None = None
    response: Any = None


@dataclass
class Settlement:
    """Records locked, then every open row of them. `mine`: the rows whose lease is still held, as they are now (I5)."""

    work: UnitOfWork
    moves: Moves
    shelf: Shelf
    lanes: list[Modification]
    mine: list[Modification]
    before: dict[int, Values | None]
    """By record: its values at the version that was sent. What moved since was not classified yet."""
    confirmed: dict[int, Modification] = field(default_factory=dict)
    outcomes: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(
        cls, work: UnitOfWork, rows: Sequence[Modification], *, states: frozenset[State] = IN_FLIGHT
    ) -> Settlement:
        shelf = shelf_for(row.record_id for row in rows)
        lanes = {row.pk: row for row in lock_lanes(list(shelf.records))}
        mine = still_ours(rows, lanes, states)
        before = {
            row.record_id: values_at(shelf.records[row.record_id], row.expected_version)
            for row in mine
            if is_under_way(row)
        }
        return cls(work, Moves(work), shelf, list(lanes.values()), mine, before)

    def record_of(self, row: Modification) -> Record:
        return self.shelf.records[row.record_id]

    def confirm(self, row: Modification, answer: Confirmed) -> None:
        record, shown = self.record_of(row), answer.record
        told_before = record.fields if record.version == answer.new_version else None  # its webhook beat its reply
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
        adjusted = _adjusted(row, shown.fields if shown is not None else told_before)
        confirm(self.moves, row, version=answer.new_version, actor="worker", how="answer", adjusted=adjusted)
        if adjusted:
            count_adjusted(row.organization_id)
        self.confirmed[record.pk] = row

    def note(self, note: Note | None, kind: OutcomeKind, detail: str = "") -> None:
        """One more line in the ledger of attempts."""
        if note is not None:
            self.outcomes.append(
                {
                    "attempt": note.attempt.pk,
                    "kind": kind,
                    "status": note.status,
                    "detail": detail[:500],
                    "response": note.response,
                    "milliseconds": note.milliseconds,
                    "at": self.work.now,
                }
            )

    def close(self) -> None:
        """Rebase what else is open on these records, save all rows, tell who must know."""
        rebase_open(self.moves, self.shelf.records.values(), self.lanes, actor="worker", confirmed=self.confirmed)
        AttemptOutcome.objects.insert_each(self.outcomes)
        self.shelf.save()
        self._tell()
        jobs = {row.job_id for row in self.moves.rows.values() if row.job_id}
        self.moves.flush()
        report_progress(self.work, jobs)

    def _tell(self) -> None:
        """RECORD_CHANGED for what moved meanwhile and was not ours: known only now that the head is settled (K6)."""
        busy = {row.record_id for row in self.lanes if is_under_way(row)}
        told = {move.record.pk: move.before for move in self.shelf.moved}
        since: dict[int, Mapping[str, Any] | None] = {**told, **self.before}
        for record_id, before in since.items():
            if record_id not in busy:
                by = self.confirmed.get(record_id)
                own = {**by.changes, **by.adjusted} if by else {}
                seen = before if before is not None else told.get(record_id)
                tell_of_foreign_changes(self.work, self.shelf.records[record_id], seen, own)


def tell_of_foreign_changes(
    work: UnitOfWork, record: Record, before: Mapping[str, Any] | None, own: Mapping[str, Any]
) -> None:
    """RECORD_CHANGED for every field that is neither as `before` nor as our `own` confirmed write left it."""
    if before is None:
        return
    known = {**before, **own}
    foreign = tuple(name for name, value in record.fields.items() if value not in (before.get(name), known.get(name)))
    if foreign:
        work.record(
            events.RecordChanged(
                organization_id=record.organization_id, actor=record.changed_by or "PEMS",
                pfa_id=record.pfa_id, new_version=record.version, changed_fields=foreign,
                before={name: before.get(name) for name in foreign},
                after={name: record.fields.get(name) for name in foreign},
            )
        )  # fmt: skip


def _adjusted(row: Modification, shown: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values PEMS changed while applying, as it shows them."""
    if shown is None:
        return {}
    return {name: shown.get(name) for name, value in row.changes.items() if shown.get(name) != value}


def bury_record(record: Record, work: UnitOfWork) -> None:
    """PEMS no longer knows the record: it stays here as a tombstone."""
    if record.deleted_at is None:
        record.deleted_at = work.now
        record.save(update_fields=["deleted_at"])
