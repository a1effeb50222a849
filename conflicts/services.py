"""A person decides. `use_local` sends the edit on against PEMS's present version, `use_pems` lets PEMS's values stand,
`merge` sends what was chosen field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_never

from conflicts.errors import AlreadyResolvedError, MergeNotAvailableError, RecordGoneError
from conflicts.freshness import Standing, bring_up_to_date, locked
from conflicts.merging import merge
from conflicts.models import Conflict, Resolution
from pems_sync import crashpoints, validation
from pems_sync.errors import ConflictMovedError, InvalidChangesError
from pems_sync.events import ConflictResolved
from pems_sync.fields import FIELDS, Values
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import Approval, Membership, Modification, Record
from pems_sync.models.approval import ApprovalKind
from pems_sync.services import approving
from pems_sync.services.moves import Moves
from pems_sync.services.progress import report_progress
from pems_sync.services.transitions import new_base, queue_again, subject, withdraw
from pems_sync.validation import Violation

__all__ = ["AlreadyResolvedError", "MergeNotAvailableError", "RecordGoneError", "Resolved", "resolve"]


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
    merged_data: Values | None = None,
) -> Resolved:
    """`merged_data`: canonical, for a merge. Raises AlreadyResolvedError, ConflictMovedError (the conflict is refreshed and
    stays open), RecordGoneError, MergeNotAvailableError, InvalidChangesError (a field the resolver may not edit, a
    conflicting one without a value, or a record that would be invalid), ApprovalNeededError (another person was asked)."""
    wanted = Decision(membership, Resolution(resolution), comment, merged_data or {}, seen_pems_version)
    return carry_out(conflict, wanted)


@dataclass(frozen=True)
class Decision:
    """What a person wants. `approval`: of the other person who asked for it, when it needed two."""

    membership: Membership
    resolution: Resolution
    comment: str = ""
    merged_data: Values | None = None
    seen_pems_version: int | None = None
    approval: Approval | None = None

    @property
    def by(self) -> str:
        return self.membership.user.username


@dataclass(frozen=True)
class Outcome:
    """`changes`: what is sent, `decided`: the value that stands per field in conflict."""

    changes: Values
    decided: Values


@dataclass(frozen=True)
class _Large:
    """What another person has to agree to first."""

    conflict: Conflict
    changes: Values


def carry_out(conflict: Conflict, wanted: Decision) -> Resolved:
    """As `resolve`. What was moved or asked for is saved before the person is told."""
    result = _carry_out(conflict, wanted)
    match result:
        case Resolved():
            return result
        case Conflict():
            raise ConflictMovedError(details={"conflict": result})
        case _Large():
            raise _second_person_asked(result, wanted)
        case _:
            assert_never(result)


@deadlock_retried
def _carry_out(conflict: Conflict, wanted: Decision) -> Resolved | Conflict | _Large:
    """One transaction, in which the record stands still. The conflict, when it moved and must be looked at again."""
    with unit_of_work() as work:
        standing = locked(conflict)
        seen, shown = wanted.seen_pems_version, standing.conflict.pems_version
        moved = bring_up_to_date(standing)
        if moved or (seen is not None and seen < shown):
            return standing.conflict
        outcome = outcome_of(standing, wanted)
        if wanted.approval is None and needs_second(standing.record, outcome.changes, wanted.membership):
            return _Large(standing.conflict, outcome.changes)
        _apply(work, standing, wanted, outcome)
        crashpoints.reached("before_resolve_commit", standing.row.pfa_id)
    crashpoints.reached("after_resolve_commit", standing.row.pfa_id)
    return Resolved(standing.conflict, outcome.changes, bool(outcome.changes))


def needs_second(record: Record, changes: Values, membership: Membership) -> bool:
    return approving.needs_second(membership.organization, record.fields, changes)


def _second_person_asked(large: _Large, wanted: Decision) -> Exception:
    """The conflict stays open. What the other person agrees to is what was seen and chosen here."""
    conflict = large.conflict
    payload: dict[str, Any] = {
        "pfaId": conflict.pfa_id,
        "resolution": wanted.resolution,
        "mergedData": wanted.merged_data,
        "changes": large.changes,
        "seenPemsVersion": conflict.pems_version,
        "comment": wanted.comment,
    }
    names = ", ".join(large.changes)
    approval = approving.ask(
        membership=wanted.membership, kind=ApprovalKind.RESOLUTION, subject=str(conflict.pk), payload=payload,
        summary=f"Resolve the conflict of {conflict.pfa_id} by {wanted.resolution}, which changes {names}.",
    )  # fmt: skip
    return approving.needed(approval)


def outcome_of(standing: Standing, wanted: Decision) -> Outcome:
    """What would be sent and what stands. Raises RecordGoneError, MergeNotAvailableError, InvalidChangesError."""
    record, row, names = standing.record, standing.row, standing.conflict.field_names
    match wanted.resolution:
        case Resolution.USE_LOCAL:
            _demand_present(record)
            errors = validation.split(validation.violations_of(record.fields, row.changes), row.changes)[0]
            _refuse(errors, row.changes, wanted)
            values = {**record.fields, **row.changes}
            return Outcome(dict(row.changes), {name: values.get(name) for name in names})
        case Resolution.MERGE:
            return _merged(standing, wanted)
        case _:
            theirs = {} if record.deleted_at else record.fields
            return Outcome({}, {name: theirs.get(name) for name in names})


def _merged(standing: Standing, wanted: Decision) -> Outcome:
    record, row = standing.record, standing.row
    _demand_present(record)
    if row.is_delete:
        raise MergeNotAvailableError
    merged = merge(
        record_fields=record.fields, base=row.base, changes=row.changes, conflict_fields=standing.conflict.fields,
        chosen=wanted.merged_data or {},
    )  # fmt: skip
    _refuse(merged.violations, merged.changes, wanted)
    return Outcome(merged.changes, merged.decided)


def _demand_present(record: Record) -> None:
    if record.deleted_at is not None:
        raise RecordGoneError


def _refuse(violations: list[Violation], changes: Values, wanted: Decision) -> None:
    """Raises InvalidChangesError: where a rule is broken, or the resolver may not write what would be written."""
    barred = [name for name in changes if FIELDS[name].permission not in wanted.membership.permissions]
    problems = [
        Violation(name, "FIELD_NOT_EDITABLE", f"{name} may not be edited by you.", frozenset({name})) for name in barred
    ]
    problems += violations
    if not problems:
        return
    names = ", ".join(dict.fromkeys(each.field for each in problems))
    message = f"The edit cannot be sent as it is, because of {names}. Resolve with use_pems, and edit the record anew."
    if wanted.resolution == Resolution.MERGE:
        message = f"This merge cannot be sent, because of {names}. Choose other values, or resolve with use_pems."
    raise InvalidChangesError(message, details={"fields": [each.as_wire() for each in problems]})


def _apply(work: UnitOfWork, standing: Standing, wanted: Decision, outcome: Outcome) -> None:
    """Decision, new base and new state are one transaction (K8)."""
    row, moves = standing.row, Moves(work)
    _close(work, standing.conflict, row, wanted, outcome)
    if outcome.changes:
        _send_on(moves, row, standing.record, wanted, outcome.changes)
    else:
        withdraw(moves, row, actor=wanted.by, reason=wanted.comment or "resolved: PEMS's values stand")
    moves.flush()
    report_progress(work, {row.job_id} if row.job_id else set())


def _send_on(moves: Moves, row: Modification, record: Record, wanted: Decision, changes: Values) -> None:
    row.changes = changes
    new_base(row, values=dict(record.fields), version=record.version)
    row.authorised_by = wanted.membership.user
    merged = wanted.resolution == Resolution.MERGE
    reason = wanted.comment or ("resolved: merged" if merged else "resolved: our values stand")
    queue_again(moves, row, actor=wanted.by, reason=reason, at_tail=False)


def _close(work: UnitOfWork, conflict: Conflict, row: Modification, wanted: Decision, outcome: Outcome) -> None:
    """The losers stay in the conflict; what the modification was stays in the journal, for an undo."""
    conflict.resolved_at, conflict.resolved_by = work.now, wanted.membership.user
    conflict.resolution, conflict.comment = wanted.resolution, wanted.comment[:500]
    conflict.decided = outcome.decided
    conflict.save(update_fields=["resolved_at", "resolved_by", "resolution", "comment", "decided"])
    was = {
        "fields": conflict.fields, "changes": row.changes, "base": row.base, "baseVersion": row.base_version,
        "expectedVersion": row.expected_version, "authorisedBy": row.authorised_by.username,
    }  # fmt: skip
    after = {"resolution": wanted.resolution, "decided": outcome.decided, "changes": outcome.changes}
    work.record(
        ConflictResolved(
            **subject(row, wanted.by), reason=wanted.comment, conflict_id=conflict.pk, resolution=wanted.resolution,
            before=was, after=after,
        )
    )  # fmt: skip
