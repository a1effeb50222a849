"""A resolution that another person had to agree to: carried out as theirs, once they did."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from conflicts.models import Conflict, Resolution
from conflicts.services import Decision, carry_out
from pems_sync.models import Approval, Membership
from pems_sync.models.approval import ApprovalKind
from pems_sync.models.organization import Permission
from pems_sync.services.approving import carried_out_by


def carry_out_approved(membership: Membership, approval: Approval) -> None:
    """Inside the transaction of the approval. Raises what `resolve` does, ConflictMovedError among it: what the asker saw
    must still stand."""
    conflict = Conflict.objects.select_related("modification").get(pk=approval.subject)
    wanted = approval.payload
    by = f"asked by {approval.asked_by.username}, approved by {membership.user.username}"
    said = "; ".join(text for text in (wanted["comment"], approval.comment) if text)
    decision = Decision(
        membership, Resolution(wanted["resolution"]), f"{by}: {said}" if said else by, wanted["mergedData"],
        wanted["seenPemsVersion"], approval,
    )  # fmt: skip
    carry_out(conflict, decision)


def open_approvals(conflict_ids: Iterable[UUID]) -> dict[str, Approval]:
    """What waits for a second person, by conflict id."""
    subjects = [str(conflict_id) for conflict_id in conflict_ids]
    rows = Approval.objects.filter(kind=ApprovalKind.RESOLUTION, subject__in=subjects, decided_at=None)
    return {row.subject: row for row in rows.select_related("asked_by")}


def register() -> None:
    carried_out_by(ApprovalKind.RESOLUTION, Permission.RESOLVE, carry_out_approved)
