"""Conflicts: listed, looked at, resolved, opened again. What resolving does is in conflicts.services."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField

from conflicts.api.presenting import conflict_shape, conflict_shapes
from conflicts.merging import read_choices
from conflicts.models import Conflict, Resolution
from conflicts.services import resolve
from conflicts.undoing import undo
from pems_sync.access import membership_for
from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, body_of, id_from, member_by_query
from pems_sync.api.paging import Order
from pems_sync.api.presenting import sees_money, shown_values
from pems_sync.api.strict import Changes, NoQuery, Paged, Said, Slug, Strict, Version, checked, checked_query
from pems_sync.api.wire import stamp
from pems_sync.errors import ConflictMovedError, NotFoundError
from pems_sync.fields import Values
from pems_sync.models import Membership
from pems_sync.models.organization import Permission
from pems_sync.services.drafts import invalid

_ORDER = Order("conflicts", ("-opened_at", "id"))


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
            rows.with_people(),
            limit=query["limit"], cursor=query.get("cursor"), scope=membership.organization_id,
        )  # fmt: skip
        items = conflict_shapes(page.rows, money=sees_money(membership))
        return Response({"items": items, "nextCursor": page.next_cursor})


def _conflict_for(
    request: Request, conflict_id: str, permission: Permission, rows: QuerySet[Conflict]
) -> tuple[Membership, Conflict]:
    """Raises NotFoundError for what does not exist or belongs to others, ForbiddenError."""
    conflict = rows.filter(pk=id_from(conflict_id)).first()
    if conflict is None:
        raise NotFoundError
    return membership_for(request.user, conflict.organization.slug, permission), conflict


def _to_decide(request: Request, conflict_id: str) -> tuple[Membership, Conflict]:
    """Only what finds it again: whoever decides reads it anew, locked."""
    rows = Conflict.objects.select_related("organization", "modification").order_by()
    found = rows.only("pfa_id", "organization__slug", "modification__record_id")
    return _conflict_for(request, conflict_id, Permission.RESOLVE, found)


class ConflictView(Endpoint):
    @extend_schema("get_conflict", responses={200: shapes.ConflictShape, **shapes.answers(400, 404)})
    def get(self, request: Request, conflict_id: str) -> Response:
        membership, conflict = _conflict_for(request, conflict_id, Permission.READ, Conflict.objects.with_people())
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
        if "mergedData" not in attrs and attrs["resolution"] == "merge":
            problem = ErrorDetail("is required: name the value of each field in conflict.", code="required")
            raise ValidationError({"mergedData": [problem]})
        return attrs


class ResolveView(Endpoint):
    @extend_schema(
        "resolve_conflict",
        request=ResolveBody,
        responses={
            200: shapes.ResolvedShape,
            202: shapes.ApprovalPending,
            **shapes.answers(400, 403, 404, 409, 413, 415),
        },
    )
    def post(self, request: Request, conflict_id: str) -> Response:
        """use_local sends the edit on against the present version of PEMS, use_pems lets the values of PEMS stand, merge
        sends the values of mergedData, which names every conflicting field that the edit changes."""
        membership, conflict = _to_decide(request, conflict_id)
        checked_query(NoQuery, request.query_params)
        body = checked(ResolveBody, body_of(request))
        return Response(_resolved(membership, conflict, body))


def _resolved(membership: Membership, conflict: Conflict, body: dict[str, Any]) -> dict[str, Any]:
    money = sees_money(membership)
    try:
        result = resolve(
            membership=membership, conflict=conflict, resolution=Resolution(body["resolution"]),
            seen_pems_version=body["seenPemsVersion"], comment=body.get("comment", ""),
            merged_data=_chosen(membership, body),
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


def _chosen(membership: Membership, body: dict[str, Any]) -> Values | None:
    """Raises InvalidChangesError for fields that are unknown or not editable, and values that cannot be used."""
    if "mergedData" not in body:
        return None
    chosen, violations = read_choices(body["mergedData"], permissions=frozenset(membership.permissions))
    if violations:
        raise invalid(violations)
    return chosen


class UndoView(Endpoint):
    @extend_schema(
        "undo_resolution",
        request=None,
        responses={200: shapes.ConflictShape, **shapes.answers(400, 403, 404, 409, 413, 415)},
    )
    def post(self, request: Request, conflict_id: str) -> Response:
        """Takes a resolution back within ten minutes, while nothing of it was sent: the conflict is open again."""
        membership, conflict = _to_decide(request, conflict_id)
        checked_query(NoQuery, request.query_params)
        checked(NoQuery, body_of(request))
        reopened = undo(membership=membership, conflict=conflict)
        return Response(conflict_shape(reopened, money=sees_money(membership)))
