"""A whole job undone: each record goes back to what it was before the job, wherever PEMS still shows what the job wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User

from pems_sync import crashpoints
from pems_sync.errors import DomainError
from pems_sync.fields import Values
from pems_sync.journal import deadlock_retried, unit_of_work
from pems_sync.models import Approval, Job, Membership, Modification, Record
from pems_sync.models.approval import ApprovalKind
from pems_sync.models.job import JobKind
from pems_sync.models.organization import Permission
from pems_sync.reading import read_now
from pems_sync.records import shelf_for
from pems_sync.retracing import Item, items_of
from pems_sync.services.approving import ask, carried_out_by, needed, needs_second
from pems_sync.services.committing import Committed
from pems_sync.services.rollback import NothingToDoError, SecondNeededError, queue_restoring, restoring_edit
from pems_sync.states import State
from pems_sync.validation import Violation

MOST_AT_ONCE = 1000
OVERLAP = timedelta(minutes=5)
UNDOABLE = (JobKind.WRITE_SYNC, JobKind.ROLLBACK)


class NotUndoableError(DomainError):
    """Only a write-sync or a rollback can be undone."""

    code, status = "NOT_UNDOABLE", 400


class TooManyToUndoError(DomainError):
    """This job changed more than 1,000 records: too many to be undone in one go. Roll records back one by one."""

    code, status = "TOO_MANY", 400


class JobUnderWayError(DomainError):
    """This job is not finished yet. Wait until it is, or withdraw what still waits, and undo it then."""

    code, status = "JOB_UNDER_WAY", 409


class AlreadyUndoneError(DomainError):
    """This job was undone before."""

    code, status = "ALREADY_UNDONE", 409


@dataclass(frozen=True)
class Preview:
    items: list[Item]
    needs_approval: bool


def preview(*, membership: Membership, job: Job) -> Preview:
    """Reads PEMS now and writes nothing but what it shows: up to 20 records one by one, more as one list of what changed
    since the job began (pems_sync.reading). Raises NotUndoableError, TooManyToUndoError, JobUnderWayError,
    AlreadyUndoneError, PemsUnavailableError."""
    rows = _read(job)
    records = Record.objects.in_bulk({row.record_id for row in rows})
    items = items_of(records, rows, set(membership.permissions))
    return Preview(items, _needs_second(membership, items))


def undo(*, membership: Membership, job: Job, reason: str) -> Committed:
    """One job of its own, in one transaction. What cannot be brought back is `rejected`, by the id of the edit; what
    others changed since stays. Raises as `preview`, and NothingToDoError, ApprovalNeededError, ApprovalOpenError."""
    rows = _read(job)
    try:
        return _carry_out(_Order(membership, membership.user, job, reason), rows)
    except SecondNeededError as error:
        payload = {"jobId": str(job.pk), "reason": reason, **error.payload}
        summary = f"Undo a {job.get_kind_display()} of {len(error.payload['changes'])} records"
        asked = ask(
            membership=membership, kind=ApprovalKind.UNDO, subject=str(job.pk), payload=payload, summary=summary
        )  # fmt: skip
        raise needed(asked) from error


def _read(job: Job) -> list[Modification]:
    """What the job did, its records as PEMS has them now."""
    rows = _confirmed(job)
    records = Record.objects.select_related("organization__connection").filter(pk__in={row.record_id for row in rows})
    read_now(job.organization, list(records.filter(deleted_at=None)), since=job.started_at - OVERLAP)
    return rows


def _confirmed(job: Job) -> list[Modification]:
    if job.kind not in UNDOABLE:
        raise NotUndoableError
    rows = list(job.modifications.filter(state=State.CONFIRMED).order_by("confirmed_version", "pk")[: MOST_AT_ONCE + 1])
    if len(rows) > MOST_AT_ONCE:
        raise TooManyToUndoError
    _demand_not_undone(job)
    if job.finished_at is None:
        raise JobUnderWayError
    return rows


def _demand_not_undone(job: Job) -> None:
    if job.undone_by.exists():
        raise AlreadyUndoneError


def _needs_second(membership: Membership, items: Sequence[Item]) -> bool:
    going = [item.plan for item in items if item.goes_on]
    return any(needs_second(membership.organization, each.before, each.changes) for each in going)


@dataclass(frozen=True)
class _Order:
    """As of a rollback. `approved`: changes by PFA id that somebody agreed to; a record that would change otherwise by
    now is left as it is."""

    membership: Membership
    author: User
    job: Job
    reason: str
    approved: Mapping[str, Values] | None = None


@deadlock_retried
def _carry_out(order: _Order, rows: Sequence[Modification]) -> Committed:
    """Records are locked first, so that of two people one is told that the other was first."""
    membership = order.membership
    with unit_of_work() as work:
        records = shelf_for(row.record_id for row in rows).records
        _demand_not_undone(order.job)
        items = _held_to(order.approved, items_of(records, rows, set(membership.permissions)))
        going = [item for item in items if item.goes_on]
        result = Committed(queued=len(going), rejected=_rejected(items))
        if not going and not result.rejected:
            raise NothingToDoError
        if order.approved is None and _needs_second(membership, going):
            raise SecondNeededError(_as_payload(going))
        if going:
            result.job = Job.objects.create(
                organization=membership.organization, kind=JobKind.UNDO, author=order.author, reason=order.reason,
                total=len(going), undoes=order.job, errors=_errors(items), started_at=work.now,
            )  # fmt: skip
            edits = [
                restoring_edit(
                    work, membership.organization, item.record, item.plan.changes, order.author, order.reason
                )
                for item in going
            ]
            queue_restoring(work, records, edits, job=result.job, authorised_by=membership.user)
        crashpoints.reached("before_undo_commit", *(item.record.pfa_id for item in going))
    crashpoints.reached("after_undo_commit", *(item.record.pfa_id for item in going))
    return result


def _held_to(approved: Mapping[str, Values] | None, items: list[Item]) -> list[Item]:
    if approved is None:
        return items
    asked_for = [item for item in items if item.record.pfa_id in approved]
    return [item if item.plan.changes == approved[item.record.pfa_id] else _overtaken(item) for item in asked_for]


def _overtaken(item: Item) -> Item:
    names = sorted({*item.plan.changes, *(each.field for each in item.plan.skipped)})
    message = "The record has changed since the approval was asked for."
    errors = [Violation(name, "APPROVAL_OVERTAKEN", message, frozenset({name})) for name in names]
    return replace(item, plan=replace(item.plan, errors=errors))


def _rejected(items: Sequence[Item]) -> dict[UUID, list[dict[str, str]]]:
    return {item.rows[-1].pk: [each.as_wire() for each in item.plan.errors] for item in items if item.plan.errors}


def _errors(items: Sequence[Item]) -> list[dict[str, str]]:
    """As kept with the job."""
    return [
        {"pfaId": item.record.pfa_id, "message": "; ".join(error.message for error in item.plan.errors)[:500]}
        for item in items
        if item.plan.errors
    ]


def _as_payload(going: Sequence[Item]) -> dict[str, Any]:
    return {
        "before": {item.record.pfa_id: item.plan.before for item in going},
        "changes": {item.record.pfa_id: item.plan.changes for item in going},
    }


def _job_of(approval: Approval) -> Job:
    return Job.objects.select_related("organization__connection").get(pk=approval.subject)


def _read_first(_: Membership, approval: Approval) -> None:
    _read(_job_of(approval))


def _approved(membership: Membership, approval: Approval) -> None:
    job = _job_of(approval)
    payload = approval.payload
    order = _Order(membership, approval.asked_by, job, payload["reason"], payload["changes"])
    _carry_out(order, _confirmed(job))


carried_out_by(ApprovalKind.UNDO, Permission.ROLLBACK, _approved, prepare=_read_first)
