"""A second person agrees before a large amount is changed, or refuses. Off unless an organization asks for it.

    carried_out_by(ApprovalKind.ROLLBACK, Permission.ROLLBACK, _approved)     # once, where the service is
    if needs_second(organization, before, changes):
        raise needed(ask(membership=…, kind=…, subject=…, payload=…, summary=…))

What was asked for is kept as data and carried out by the service that asked, with the rights of the person who agrees,
in the transaction that says so: decided and not carried out, or carried out twice, cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction

from pems_sync import events
from pems_sync.errors import (
    AlreadyDecidedError,
    ApprovalNeededError,
    ApprovalOpenError,
    ForbiddenError,
    OwnRequestError,
)
from pems_sync.fields import MONEY_FIELDS, Value, Values
from pems_sync.journal import deadlock_retried, unit_of_work
from pems_sync.models import Approval, Membership, Organization
from pems_sync.models.approval import ApprovalKind
from pems_sync.models.organization import Permission

Handler = Callable[[Membership, Approval], None]


def needs_second(organization: Organization, before: Values, changes: Values) -> bool:
    """Whether an amount changes by more than the organization's threshold. Between null and an amount, all of it counts."""
    threshold = organization.money_threshold
    if not organization.second_approval or threshold is None:
        return False
    return any(_distance(before.get(name), changes[name]) > threshold for name in MONEY_FIELDS & changes.keys())


def _distance(before: Value, after: Value) -> Decimal:
    return abs(Decimal(str(after or 0)) - Decimal(str(before or 0)))


@dataclass(frozen=True)
class _Carrier:
    permission: Permission
    handler: Handler
    prepare: Handler | None


_carriers: dict[str, _Carrier] = {}


def carried_out_by(
    kind: ApprovalKind, permission: Permission, handler: Handler, *, prepare: Handler | None = None
) -> None:
    """Who carries out what was approved, and the permission to decide it. `handler` gets the membership of the person
    who agreed and runs inside the transaction of the decision: it may raise a DomainError, and then nothing happened.
    `prepare` runs before, outside of any transaction, for what asks PEMS."""
    _carriers[kind] = _Carrier(permission, handler, prepare)


def permission_for(kind: str) -> Permission:
    """Needed to decide approvals of this kind."""
    return _carriers[kind].permission


def ask(
    *, membership: Membership, kind: ApprovalKind, subject: str, payload: Mapping[str, Any], summary: str
) -> Approval:
    """Keep what is wanted until another person decides. Call it outside of a transaction that is given up afterwards.
    `summary`: in plain words, without amounts. Raises ApprovalOpenError while one for this subject is open."""
    organization = membership.organization
    wanted = Approval(
        organization=organization, kind=kind, subject=subject, payload=dict(payload), summary=summary[:500],
        asked_by=membership.user,
    )  # fmt: skip
    with unit_of_work() as work:
        if not _insert(wanted):
            raise ApprovalOpenError
        work.record(
            events.ApprovalAsked(
                organization_id=organization.pk, actor=membership.user.username, pfa_id=_pfa_id(wanted),
                reason=wanted.summary, after=_identity(wanted),
            )
        )  # fmt: skip
    return wanted


def _insert(wanted: Approval) -> bool:
    try:
        with transaction.atomic():
            wanted.save(force_insert=True)
    except IntegrityError:  # one_open_approval_per_subject
        return False
    return True


def needed(approval: Approval) -> ApprovalNeededError:
    """What the service that asked raises."""
    return ApprovalNeededError(details={"approvalId": str(approval.pk)})


def decide(*, membership: Membership, approval: Approval, approve: bool, comment: str) -> Approval:
    """Another person agrees, and it is carried out; or refuses. Raises ForbiddenError, OwnRequestError,
    AlreadyDecidedError, and whatever the service raises that carries it out: then the approval stays open."""
    carrier = _carriers[approval.kind]
    if not membership.allows(carrier.permission):
        raise ForbiddenError(f"To decide this, you need the permission '{carrier.permission}'.")
    if approval.asked_by_id == membership.user_id:
        raise OwnRequestError
    if approve and approval.decided_at is None and carrier.prepare is not None:
        carrier.prepare(membership, approval)
    return _decide(membership, approval, carrier.handler if approve else None, comment)


@deadlock_retried
def _decide(membership: Membership, approval: Approval, handler: Handler | None, comment: str) -> Approval:
    """The approval is locked before records: nobody who holds a record waits for an approval."""
    with unit_of_work() as work:
        fresh = Approval.objects.select_for_update().get(pk=approval.pk)
        if fresh.decided_at is not None:
            raise AlreadyDecidedError
        fresh.decided_by, fresh.decided_at = membership.user, work.now
        fresh.approved, fresh.comment = handler is not None, comment[:500]
        fresh.save(update_fields=["decided_by", "decided_at", "approved", "comment"])
        if handler is not None:
            handler(membership, fresh)
        work.record(
            events.ApprovalDecided(
                organization_id=fresh.organization_id, actor=membership.user.username, pfa_id=_pfa_id(fresh),
                reason=fresh.comment, after={**_identity(fresh), "approved": fresh.approved},
            )
        )  # fmt: skip
    return fresh


def _identity(approval: Approval) -> dict[str, Any]:
    return {"approvalId": str(approval.pk), "kind": approval.kind, "subject": approval.subject}


def _pfa_id(approval: Approval) -> str:
    """Of the record it is about, where it is about one."""
    return approval.subject if approval.kind == ApprovalKind.ROLLBACK else str(approval.payload.get("pfaId", ""))
