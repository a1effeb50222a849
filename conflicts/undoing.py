"""A decision taken back within ten minutes, as long as nothing of it was sent. The same conflict is open again.

An edit that was to be sent goes back to what it was. One that was withdrawn is final and stays so: another takes its
place, of the same author, with the same changes and base, at the tail of the record's lane.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from conflicts.errors import UndoTooLateError
from conflicts.freshness import Standing, bring_up_to_date
from conflicts.models import Conflict, Resolution
from pems_sync import crashpoints
from pems_sync.events import ConflictReopened, ModificationQueued
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import JournalEntry, Membership, Modification, Record
from pems_sync.records import shelf_for
from pems_sync.services.moves import Moves, lock_lanes
from pems_sync.services.progress import report_progress
from pems_sync.services.transitions import rank, subject
from pems_sync.states import State

UNDOABLE_FOR = timedelta(minutes=10)


def undoable_until(conflict: Conflict) -> datetime | None:
    """The end of the time in which it may be taken back, as far as can be seen without a lock."""
    row = conflict.modification
    until = (conflict.resolved_at or timezone.now()) + UNDOABLE_FOR
    waits = row.state == State.WITHDRAWN or (row.state == State.QUEUED and not row.exposed and not row.attempts)
    return until if _is_decision(conflict) and waits and until > timezone.now() else None


def _is_decision(conflict: Conflict) -> bool:
    """A person said which values stand; a conflict closed by the withdrawal of its edit is none."""
    return conflict.resolved_at is not None and conflict.resolution != Resolution.WITHDRAWN


@deadlock_retried
def undo(*, membership: Membership, conflict: Conflict) -> Conflict:
    """The conflict, open again and brought up to date. Raises UndoTooLateError: older than ten minutes, sent already,
    open, or closed with its edit."""
    with unit_of_work() as work:
        record, lane, fresh = _locked(conflict)
        _demand_in_time(fresh, work.now)
        undoing = _Undoing(work, membership, fresh, Moves(work), _as_it_was(fresh))
        row = next((row for row in lane if row.pk == fresh.modification_id), None)
        if row is None:
            undoing.replace(_withdrawn(fresh))
        else:
            _demand_unsent(row, fresh)
            undoing.return_to_question(row)
        bring_up_to_date(Standing(record, fresh.modification, fresh))
        crashpoints.reached("before_reopen_commit", record.pfa_id)
    crashpoints.reached("after_reopen_commit", record.pfa_id)
    return fresh


def _locked(conflict: Conflict) -> tuple[Record, list[Modification], Conflict]:
    """Record, then lane, then the conflict, as when it is resolved."""
    record_id = conflict.modification.record_id
    record = shelf_for([record_id]).records[record_id]
    lane = lock_lanes([record_id])
    rows = Conflict.objects.select_related("organization", "modification__author")
    return record, lane, rows.select_for_update(of=("self",)).get(pk=conflict.pk)


def _demand_in_time(conflict: Conflict, now: datetime) -> None:
    if conflict.resolved_at is None:
        raise UndoTooLateError("This conflict is open; there is nothing to take back.")
    if not _is_decision(conflict):
        raise UndoTooLateError("This conflict was closed because its edit was withdrawn. Edit the record anew.")
    if now > conflict.resolved_at + UNDOABLE_FOR:
        raise UndoTooLateError("This was decided more than ten minutes ago. Edit the record anew.")


def _demand_unsent(row: Modification, conflict: Conflict) -> None:
    """Queued, and no request of it began since: what is claimed now is no longer ours to change."""
    sent = row.ledger.filter(started_at__gte=conflict.resolved_at).exists()
    if row.state != State.QUEUED or row.exposed or sent:
        raise UndoTooLateError("The edit is on its way to PEMS, or was sent already. Edit the record anew.")


def _withdrawn(conflict: Conflict) -> Modification:
    row = Modification.objects.select_related("author", "organization").get(pk=conflict.modification_id)
    if row.state != State.WITHDRAWN:
        raise UndoTooLateError("The edit was delivered, or a later one took its place. Edit the record anew.")
    return row


def _as_it_was(conflict: Conflict) -> dict[str, Any]:
    """What the modification was when the decision was made, as the journal keeps it."""
    entries = JournalEntry.objects.filter(modification_id=conflict.modification_id, kind="conflict_resolved")
    entry = entries.filter(details__conflictId=str(conflict.pk)).order_by("-position").first()
    if entry is None or not isinstance(entry.before, dict):
        raise UndoTooLateError
    return entry.before


@dataclass
class _Undoing:
    """One undo, with everything locked. `was`: the modification before the decision."""

    work: UnitOfWork
    membership: Membership
    conflict: Conflict
    moves: Moves
    was: dict[str, Any]

    def return_to_question(self, row: Modification) -> None:
        """The lane waits again where it waited before."""
        before = self.moves.move(row, State.CONFLICTED)
        row.changes, row.base = self.was["changes"], self.was["base"]
        row.base_version, row.expected_version = self.was["baseVersion"], self.was["expectedVersion"]
        row.authorised_by = row.author  # whoever decides next is the next who authorises it
        self._reopen(row, before)

    def replace(self, gone: Modification) -> None:
        row = self._successor_of(gone)
        row.save(force_insert=True)
        after = {"state": State.QUEUED, "changes": row.changes, "insteadOf": str(gone.pk)}
        reason = f"takes the place of {gone.pk}: the decision to withdraw it was taken back"
        self.work.record(
            ModificationQueued(**subject(row, self._by), before={"state": State.DRAFT}, after=after, reason=reason)
        )
        gone.superseded_by = row
        self.moves.keep(gone)
        self._reopen(row, self.moves.move(row, State.CONFLICTED))

    def _successor_of(self, gone: Modification) -> Modification:
        now = self.work.now
        return Modification(
            organization=gone.organization, record_id=gone.record_id, pfa_id=gone.pfa_id, job_id=gone.job_id,
            author=gone.author, authorised_by=self.membership.user, reason=gone.reason, priority=gone.priority,
            operation=gone.operation, changes=self.was["changes"], base=self.was["base"],
            base_version=self.was["baseVersion"], expected_version=self.was["expectedVersion"], state=State.QUEUED,
            saved_at=gone.saved_at, committed_at=now, queued_at=now, rank_at=rank(now, gone.priority),
        )  # fmt: skip

    def _reopen(self, row: Modification, came_from: dict[str, str]) -> None:
        """`came_from`: the state it leaves, as `move` says it. The decision stays in the journal."""
        row.not_before, row.waits_for = None, "a person decides which values stand"
        before = {**came_from, "resolution": self.conflict.resolution}
        self._forget_decision(row)
        self.work.record(
            ConflictReopened(
                **subject(row, self._by), reason="the decision was taken back", before=before,
                after={"state": State.CONFLICTED}, conflict_id=self.conflict.pk, fields=tuple(self.conflict.field_names),
            )
        )  # fmt: skip
        self.moves.flush()
        report_progress(self.work, {row.job_id} if row.job_id else set())

    def _forget_decision(self, row: Modification) -> None:
        conflict = self.conflict
        conflict.modification = row
        conflict.resolved_at = conflict.resolved_by = conflict.decided = None
        conflict.resolution = conflict.comment = ""
        conflict.save(update_fields=["modification", "resolved_at", "resolved_by", "resolution", "comment", "decided"])

    @property
    def _by(self) -> str:
        return self.membership.user.username
