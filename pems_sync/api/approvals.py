"""What waits for a second person: listed, agreed to, refused."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField

from pems_sync.access import Person, membership_for
from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, body_of, id_from, member_by_query
from pems_sync.api.paging import Order
from pems_sync.api.presenting import sees_money, shown_document
from pems_sync.api.strict import NoQuery, Paged, Said, Slug, Strict, checked, checked_query
from pems_sync.api.wire import stamp
from pems_sync.errors import ConflictMovedError, NotFoundError, OwnRequestError
from pems_sync.models import Approval, Membership
from pems_sync.services.approving import decide, permission_for

_ORDER = Order("approvals", ("-asked_at", "id"))


class ApprovalsQuery(Paged):
    organizationId = Slug()
    status = ChoiceField(["open", "decided"], required=False)


class ApprovalsView(Endpoint):
    @extend_schema(
        "list_approvals",
        parameters=[ApprovalsQuery],
        responses={200: shapes.page_of(shapes.ApprovalShape), **shapes.answers(400, 404)},
    )
    def get(self, request: Request) -> Response:
        """Newest first."""
        membership = member_by_query(request)
        query = checked_query(ApprovalsQuery, request.query_params)
        rows = Approval.objects.filter(organization=membership.organization)
        if "status" in query:
            rows = rows.filter(decided_at__isnull=query["status"] == "open")
        rows = rows.select_related("organization", "asked_by", "decided_by")
        page = _ORDER.page(rows, limit=query["limit"], cursor=query.get("cursor"), scope=membership.organization_id)
        money = sees_money(membership)
        items = [approval_shape(each, money=money) for each in page.rows]
        return Response({"items": items, "nextCursor": page.next_cursor})


def approval_shape(row: Approval, *, money: bool) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "organizationId": row.organization.slug,
        "kind": row.kind,
        "subject": row.subject,
        "status": "open" if row.decided_at is None else "decided",
        "summary": row.summary,
        "payload": shown_document(row.payload, money=money),
        "masked": not money,
        "askedBy": row.asked_by.username,
        "askedAt": stamp(row.asked_at),
        "decidedBy": row.decided_by.username if row.decided_by else None,
        "decidedAt": stamp(row.decided_at),
        "approved": row.approved,
        "comment": row.comment or None,
    }


def approval_for(user: Person, approval_id: str) -> tuple[Membership, Approval]:
    """To decide about it. Raises NotFoundError for what does not exist or belongs to others, ForbiddenError, OwnRequestError."""
    rows = Approval.objects.select_related("organization", "asked_by", "decided_by")
    row = rows.filter(pk=id_from(approval_id)).first()
    if row is None:
        raise NotFoundError
    membership = membership_for(user, row.organization.slug, permission_for(row.kind))
    if row.asked_by_id == membership.user_id:
        raise OwnRequestError
    return membership, row


class DecisionBody(Strict):
    comment = Said(required=False)


class ApproveView(Endpoint):
    @extend_schema(
        "approve",
        request=DecisionBody,
        responses={200: shapes.ApprovalShape, **shapes.answers(400, 403, 404, 409, 413, 415, 503)},
    )
    def post(self, request: Request, approval_id: str) -> Response:
        """Another person than the one who asked. What was asked for is carried out at once, with your rights."""
        return _decided(request, approval_id, approve=True)


class RejectView(Endpoint):
    @extend_schema(
        "reject",
        request=DecisionBody,
        responses={200: shapes.ApprovalShape, **shapes.answers(400, 403, 404, 409, 413, 415)},
    )
    def post(self, request: Request, approval_id: str) -> Response:
        """Another person than the one who asked. Nothing is carried out."""
        return _decided(request, approval_id, approve=False)


def _decided(request: Request, approval_id: str, *, approve: bool) -> Response:
    membership, approval = approval_for(request.user, approval_id)
    checked_query(NoQuery, request.query_params)
    comment = checked(DecisionBody, body_of(request)).get("comment", "")
    try:
        row = decide(membership=membership, approval=approval, approve=approve, comment=comment)
    except ConflictMovedError as error:  # its details are for the person who resolves
        raise ConflictMovedError("PEMS changed the record since this was asked. Refuse it and ask anew.") from error
    row.organization, row.asked_by = approval.organization, approval.asked_by
    return Response(approval_shape(row, money=sees_money(membership)))
