"""A record brought back to a version it had: planned against PEMS as it is now, then an edit like any other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User

from pems_sync import crashpoints, dispatch, events
from pems_sync.clock import database_now
from pems_sync.drift import base_for
from pems_sync.errors import DomainError, InvalidChangesError, NotFoundError, UnknownVersionError
from pems_sync.fields import Values
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import Approval, Job, Membership, Modification, Organization, Record
from pems_sync.models.approval import ApprovalKind
from pems_sync.models.job import JobKind
from pems_sync.models.modification import Operation
from pems_sync.models.organization import Permission
from pems_sync.reading import read_now
from pems_sync.records import shelf_for, values_at
from pems_sync.restoring import Plan, plan
from pems_sync.services.approving import ask, carried_out_by, needed, needs_second
from pems_sync.services.committing import Commit, Committed
from pems_sync.services.moves import lock_lanes
from pems_sync.services.transitions import subject
from pems_sync.states import OPEN, State


class NothingToDoError(DomainError):
    """PEMS has these values already, as far as you may change them: there is nothing to bring back."""

    code, status = "NOTHING_TO_DO", 409


class RecordGoneError(DomainError):
    """PEMS no longer knows this record, so nothing of it can be brought back."""

    code, status = "RECORD_GONE", 409


class RequestOvertakenError(DomainError):
    """What was asked for would change something else by now. Refuse it, and ask anew."""

    code, status = "APPROVAL_OVERTAKEN", 409


@dataclass(frozen=True)
class Preview:
    """`open_edits`: committed edits of the record that are not done: a rollback goes behind them."""

    record: Record
    plan: Plan
    open_edits: int
    needs_approval: bool


def preview(*, membership: Membership, pfa_id: str, version: int) -> Preview:
    """Reads PEMS now, and writes nothing but what it shows. Raises NotFoundError, UnknownVersionError,
    PemsUnavailableError, RecordGoneError."""
    record = _read(membership.organization, pfa_id, version)
    made = plan(now=record.fields, wanted=_wanted(record, version), permissions=set(membership.permissions))
    waiting = Modification.objects.filter(record=record, state__in=sorted(OPEN - {State.DRAFT})).count()
    second = needs_second(membership.organization, made.before, made.changes)
    return Preview(record, made, waiting, second)


def roll_back(*, membership: Membership, pfa_id: str, version: int, reason: str) -> Committed:
    """One modification with a job of its own, planned on a fresh read. An open draft of the record is left alone.
    Raises as `preview`, and InvalidChangesError, NothingToDoError, ApprovalNeededError (it was asked for),
    ApprovalOpenError."""
    record = _read(membership.organization, pfa_id, version)
    wanted = _wanted(record, version)
    try:
        return _carry_out(_Order(membership, membership.user, record.pk, wanted, reason))
    except SecondNeededError as error:
        payload = {"pfaId": pfa_id, "version": version, "reason": reason, **error.payload}
        summary = f"Roll {pfa_id} back to version {version}: {', '.join(error.payload['changes'])}"
        asked = ask(
            membership=membership, kind=ApprovalKind.ROLLBACK, subject=pfa_id, payload=payload, summary=summary
        )  # fmt: skip
        raise needed(asked) from error


class SecondNeededError(Exception):
    """Ends a transaction in which nothing may happen yet. `payload`: what another person is asked to agree to."""

    def __init__(self, payload: dict[str, Any]) -> None:
        super().__init__()
        self.payload = payload


def _read(organization: Organization, pfa_id: str, version: int) -> Record:
    """The record as PEMS has it now. What is wrong with the request is said before PEMS is asked."""
    records = Record.objects.for_organization(organization).select_related("organization__connection")
    record = records.filter(pfa_id=pfa_id).first()
    if record is None:
        raise NotFoundError
    _wanted(record, version)
    read_now(organization, [record], since=database_now() - timedelta(hours=1))
    record.refresh_from_db()
    if record.deleted_at is not None:
        raise RecordGoneError
    return record


def _wanted(record: Record, version: int) -> Values:
    values = values_at(record, version) if version <= record.version else None
    if values is None:
        raise UnknownVersionError("This is not a version of the record that was seen here: see its history.")
    return values


@dataclass(frozen=True)
class _Order:
    """`membership`: whose rights count; `author`: whose edit it is; they differ after an approval. `approved`: the
    changes somebody agreed to, and no others."""

    membership: Membership
    author: User
    record_id: int
    wanted: Values
    reason: str
    approved: Values | None = None


@deadlock_retried
def _carry_out(order: _Order) -> Committed:
    membership = order.membership
    with unit_of_work() as work:
        record = shelf_for([order.record_id]).records[order.record_id]
        made = plan(now=record.fields, wanted=order.wanted, permissions=set(membership.permissions))
        _check(record, made, order)
        job = Job.objects.create(
            organization=membership.organization, kind=JobKind.ROLLBACK, author=order.author, reason=order.reason,
            total=1, started_at=work.now,
        )  # fmt: skip
        row = restoring_edit(work, membership.organization, record, made.changes, order.author, order.reason)
        queue_restoring(work, {record.pk: record}, [row], job=job, authorised_by=membership.user)
        crashpoints.reached("before_rollback_commit", record.pfa_id)
    crashpoints.reached("after_rollback_commit", record.pfa_id)
    return Committed(job, 1)


def _check(record: Record, made: Plan, order: _Order) -> None:
    if record.deleted_at is not None:
        raise RecordGoneError
    if order.approved is not None and made.changes != order.approved:
        raise RequestOvertakenError
    if made.errors:
        names = ", ".join(dict.fromkeys(each.field for each in made.errors))
        details = {"fields": [each.as_wire() for each in made.errors]}
        raise InvalidChangesError(f"The record cannot be brought back, because of {names}.", details=details)
    if not made.changes:
        raise NothingToDoError
    if order.approved is None and needs_second(order.membership.organization, made.before, made.changes):
        raise SecondNeededError({"before": made.before, "changes": made.changes})


def restoring_edit(
    work: UnitOfWork, organization: Organization, record: Record, changes: Values, author: User, reason: str
) -> Modification:
    """Not saved yet: the values as they stand are its base, as if the author had made a draft of them just now."""
    row = Modification(
        organization=organization, record=record, pfa_id=record.pfa_id, author=author, authorised_by=author,
        operation=Operation.DELETE if changes == {"isDiscontinued": True} else Operation.UPDATE,
        changes=changes, base=base_for(changes, record.fields), base_version=record.version,
        expected_version=record.version, reason=reason, saved_at=work.now,
    )  # fmt: skip
    work.record(events.DraftSaved(**subject(row, author.username), reason=reason, before={}, after=dict(changes)))
    return row


def queue_restoring(
    work: UnitOfWork, records: dict[int, Record], rows: list[Modification], *, job: Job, authorised_by: User
) -> None:
    """Queue edits that are not saved yet. Their records are locked."""
    _Restoring(work, records, lock_lanes(list(records)), job, 0, job.reason, authorised_by).run(rows)
    dispatch.ring_on_commit(job.organization.connection_id)


@dataclass
class _Restoring(Commit):
    """A commit of edits that never lay on a desk: drafts of the same people stay apart, and nothing is folded, so that
    history and undo tell them from what planners typed."""

    authorised_by: User

    def _queue(self, draft: Modification, tail: Modification | None) -> None:
        super()._queue(draft, None)
        draft.authorised_by = self.authorised_by

    def _save(self, drafts: list[Modification]) -> None:
        Modification.objects.bulk_create(drafts)
        super()._save(drafts)


def _read_first(membership: Membership, approval: Approval) -> None:
    _read(membership.organization, approval.subject, approval.payload["version"])


def _approved(membership: Membership, approval: Approval) -> None:
    """Exactly what was asked for, with the rights of the person who agreed."""
    changes: Values = approval.payload["changes"]
    record = Record.objects.for_organization(membership.organization).get(pfa_id=approval.subject)
    reason = approval.payload["reason"]
    _carry_out(_Order(membership, approval.asked_by, record.pk, changes, reason, approved=changes))


carried_out_by(ApprovalKind.ROLLBACK, Permission.ROLLBACK, _approved, prepare=_read_first)
