"""A person decides. `use_local` sends the edit on against PEMS's present version, `use_pems` lets PEMS's values stand."""

from __future__ import annotations

from dataclasses import dataclass

from conflicts.models import Conflict, Resolution
from conflicts.receivers import side_by_side
from pems_sync import validation
from pems_sync.errors import ConflictMovedError, DomainError, InvalidChangesError
from pems_sync.events import ConflictResolved
from pems_sync.fields import FIELDS, Values
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import Membership, Modification, Record
from pems_sync.records import shelf_for
from pems_sync.services.moves import Moves, lock_lanes
from pems_sync.services.progress import report_progress
from pems_sync.services.transitions import new_base, queue_again, subject, withdraw


class AlreadyResolvedError(DomainError):
    """Somebody resolved this conflict before you. Reload it to see how."""

    code, status = "CONFLICT_ALREADY_RESOLVED", 409


class RecordGoneError(DomainError):
    """PEMS no longer knows this record, so the edit cannot be sent. Resolve with use_pems."""

    code, status = "RECORD_GONE", 409


@dataclass(frozen=True)
class Resolved:
    conflict: Conflict
    applied_changes: Values
    requeued: bool


def resolve(
    *,
    membership: Membership,
    conflict: Conflict,
    resolution: Resolution,
    seen_pems_version: int | None = None,
    comment: str = "",
) -> Resolved:
    """Raises AlreadyResolvedError, ConflictMovedError (the conflict is refreshed and stays open), RecordGoneError,
    InvalidChangesError (a field the resolver may not edit, or a record that would be invalid)."""
    decision = _Decision(membership, resolution, comment)
    resolved = None
    while resolved is None:  # again when PEMS moves between the look and the decision
        moved = _refresh_if_moved(conflict, seen_pems_version)
        if moved is not None:
            raise ConflictMovedError(details={"conflict": moved})
        resolved = _carry_out(conflict, decision)
    return resolved


@dataclass(frozen=True)
class _Decision:
    membership: Membership
    resolution: Resolution
    comment: str

    @property
    def by(self) -> str:
        return self.membership.user.username


@deadlock_retried
def _carry_out(conflict: Conflict, decision: _Decision) -> Resolved | None:
    """None when PEMS has moved since the conflict was brought up to date."""
    with unit_of_work() as work:
        record, row, fresh = _locked(conflict)
        if record.version > fresh.pems_version and record.deleted_at is None:
            return None
        moves = Moves(work)
        sends_on = decision.resolution == Resolution.USE_LOCAL
        if sends_on:
            _check_local(record, row, decision.membership)
        _close(work, fresh, row, decision)
        if sends_on:
            _send_on(moves, row, record, decision)
        else:
            withdraw(moves, row, actor=decision.by, reason=decision.comment or "PEMS's values were kept")
        moves.ring(row)
        moves.flush()
        report_progress(work, {row.job_id} if row.job_id else set())
    return Resolved(fresh, dict(row.changes) if sends_on else {}, sends_on)


def _locked(conflict: Conflict) -> tuple[Record, Modification, Conflict]:
    """Record, then lane, then the conflict. Two people at once: the second finds it resolved."""
    record_id = conflict.modification.record_id
    record = shelf_for([record_id]).records[record_id]
    rows = {row.pk: row for row in lock_lanes([record_id])}
    fresh = Conflict.objects.select_for_update().get(pk=conflict.pk)
    if fresh.resolved_at is not None or fresh.modification_id not in rows:
        raise AlreadyResolvedError
    return record, rows[fresh.modification_id], fresh


@deadlock_retried
def _refresh_if_moved(conflict: Conflict, seen: int | None) -> Conflict | None:
    """Bring the conflict up to the stored record when PEMS moved since. The refreshed conflict when the person must
    look again: because what they saw is older, or because values they decide on are others now (K5)."""
    with unit_of_work():
        record, row, fresh = _locked(conflict)
        before = {field["name"]: field["theirs"] for field in fresh.fields}
        stale = seen is not None and seen < fresh.pems_version
        if record.version > fresh.pems_version and record.deleted_at is None:
            names = list(
                dict.fromkeys([*before, *(name for name in row.base if record.fields.get(name) != row.base[name])])
            )
            ours = {**row.base, **row.changes}
            fresh.fields = [side_by_side(name, row.base, ours, record.fields) for name in names]
            fresh.pems_version = record.version
            fresh.save(update_fields=["fields", "pems_version"])
            stale = stale or any(before.get(field["name"], object()) != field["theirs"] for field in fresh.fields)
    return fresh if stale else None


def _check_local(record: Record, row: Modification, membership: Membership) -> None:
    if record.deleted_at is not None:
        raise RecordGoneError
    barred = [name for name in row.changes if FIELDS[name].permission not in membership.permissions]
    violations = [
        validation.Violation(name, "FIELD_NOT_EDITABLE", f"{name} may not be edited by you.", frozenset({name}))
        for name in barred
    ]
    violations += validation.split(validation.violations_of(record.fields, row.changes), row.changes)[0]
    if violations:
        names = ", ".join(dict.fromkeys(each.field for each in violations))
        message = (
            f"The edit cannot be sent as it is, because of {names}. Resolve with use_pems, and edit the record anew."
        )
        raise InvalidChangesError(message, details={"fields": [each.as_wire() for each in violations]})


def _send_on(moves: Moves, row: Modification, record: Record, decision: _Decision) -> None:
    new_base(row, values=dict(record.fields), version=record.version)
    row.authorised_by = decision.membership.user
    reason = decision.comment or "resolved: our values stand"
    queue_again(moves, row, actor=decision.by, reason=reason, at_tail=False)


def _close(work: UnitOfWork, conflict: Conflict, row: Modification, decision: _Decision) -> None:
    conflict.resolved_at, conflict.resolved_by = work.now, decision.membership.user
    conflict.resolution, conflict.comment = decision.resolution, decision.comment[:500]
    conflict.save(update_fields=["resolved_at", "resolved_by", "resolution", "comment"])
    work.record(
        ConflictResolved(
            **subject(row, decision.by), reason=decision.comment, conflict_id=conflict.pk, resolution=decision.resolution,
            before={"fields": conflict.fields}, after={"resolution": decision.resolution},
        )
    )  # fmt: skip
