"""Conflicts: listed, looked at, resolved. What resolving does is in conflicts.services."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField

from conflicts.api.presenting import conflict_shape
from conflicts.models import Conflict, Resolution
from conflicts.services import resolve
from pems_sync.access import membership_for
from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, body_of, id_from, member_by_query
from pems_sync.api.paging import Order
from pems_sync.api.presenting import sees_money, shown_values
from pems_sync.api.strict import Changes, NoQuery, Paged, Said, Slug, Strict, Version, checked, checked_query
from pems_sync.api.wire import stamp
from pems_sync.errors import ConflictMovedError, DomainError, NotFoundError
from pems_sync.models import Membership
from pems_sync.models.organization import Permission

_ORDER = Order("conflicts", ("-opened_at", "id"))


class MergeNotAvailableError(DomainError):
    """Merging field by field is not available yet. Resolve with use_local or use_pems."""

    code, status = "MERGE_NOT_AVAILABLE", 400


class ConflictsQuery(Paged):
    organizationId = Slug()
    status = ChoiceField(["unresolved", "resolved"], required=False)


class ConflictsView(Endpoint):
    @extend_schema(
        "list_conflicts",
        parameters=[ConflictsQuery],
        responses={200: shapes.page_of(shapes.ConflictShape), **shapes.answers(400, 404)},
    )
    def get(self, request: Request) -> Response:
        """Newest first."""
        membership = member_by_query(request)
        query = checked_query(ConflictsQuery, request.query_params)
        rows = Conflict.objects.filter(organization=membership.organization)
        match query.get("status"):
            case "unresolved":
                rows = rows.unresolved()
            case "resolved":
                rows = rows.resolved()
        page = _ORDER.page(
            rows.select_related("organization", "modification__author", "resolved_by"),
            limit=query["limit"], cursor=query.get("cursor"), scope=membership.organization_id,
        )  # fmt: skip
        money = sees_money(membership)
        items = [conflict_shape(each, money=money) for each in page.rows]
        return Response({"items": items, "nextCursor": page.next_cursor})


def _conflict_for(request: Request, conflict_id: str, permission: Permission) -> tuple[Membership, Conflict]:
    """Raises NotFoundError for what does not exist or belongs to others, ForbiddenError."""
    rows = Conflict.objects.select_related("organization", "modification__author", "resolved_by")
    conflict = rows.filter(pk=id_from(conflict_id)).first()
    if conflict is None:
        raise NotFoundError
    return membership_for(request.user, conflict.organization.slug, permission), conflict


class ConflictView(Endpoint):
    @extend_schema("get_conflict", responses={200: shapes.ConflictShape, **shapes.answers(400, 404)})
    def get(self, request: Request, conflict_id: str) -> Response:
        membership, conflict = _conflict_for(request, conflict_id, Permission.READ)
        checked_query(NoQuery, request.query_params)
        return Response(conflict_shape(conflict, money=sees_money(membership)))


class ResolveBody(Strict):
    resolution = ChoiceField(["use_local", "use_pems", "merge"])
    mergedData = Changes(required=False)
    seenPemsVersion = Version()
    comment = Said(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "mergedData" in attrs and attrs["resolution"] != "merge":
            raise ValidationError({"mergedData": [ErrorDetail("belongs to the resolution merge.", code="either")]})
        return attrs


class ResolveView(Endpoint):
    @extend_schema(
        "resolve_conflict",
        request=ResolveBody,
        responses={200: shapes.ResolvedShape, **shapes.answers(400, 403, 404, 409, 413, 415)},
    )
    def post(self, request: Request, conflict_id: str) -> Response:
        """use_local sends the edit on against the present version of PEMS, use_pems lets the values of PEMS stand."""
        membership, conflict = _conflict_for(request, conflict_id, Permission.RESOLVE)
        checked_query(NoQuery, request.query_params)
        body = checked(ResolveBody, body_of(request))
        if body["resolution"] == "merge":
            raise MergeNotAvailableError
        return Response(_resolved(membership, conflict, body))


def _resolved(membership: Membership, conflict: Conflict, body: dict[str, Any]) -> dict[str, Any]:
    money = sees_money(membership)
    try:
        result = resolve(
            membership=membership, conflict=conflict, resolution=Resolution(body["resolution"]),
            seen_pems_version=body["seenPemsVersion"], comment=body.get("comment", ""),
        )  # fmt: skip
    except ConflictMovedError as error:
        shape = conflict_shape(error.details["conflict"], money=money)
        raise ConflictMovedError(error.message, details={"conflict": shape}) from error
    return {
        "success": True,
        "conflictId": str(result.conflict.pk),
        "resolvedAt": stamp(result.conflict.resolved_at),
        "appliedChanges": shown_values(result.applied_changes, money=money),
        "requeuedForSync": result.requeued,
    }
