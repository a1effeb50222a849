"""A planner's drafts: saved one by one or up to a thousand at once, listed, discarded."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ListField

from pems_sync.access import membership_for
from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, body_of
from pems_sync.api.paging import Order
from pems_sync.api.presenting import draft_shape, sees_money
from pems_sync.api.records import present_records
from pems_sync.api.strict import Changes, NoQuery, Paged, Said, Strict, Text, Version, checked, checked_query
from pems_sync.errors import DomainError, NotFoundError, StaleBaseError
from pems_sync.models import Membership, Modification, Record
from pems_sync.models.organization import Permission
from pems_sync.services.drafts import DraftInput, SavedDraft, discard_drafts, save_draft, save_drafts

MOST_AT_ONCE = 1000
_ORDER = Order("drafts", ("pfa_id",))


class DraftBody(Strict):
    changes = Changes()
    baseVersion = Version()
    reason = Said(required=False)


class BulkDraft(DraftBody):
    pfaId = Text(max_length=64)


class BulkBody(Strict):
    items = ListField(child=BulkDraft(), min_length=1, max_length=MOST_AT_ONCE)


class DraftsView(Endpoint):
    @extend_schema(
        "list_drafts",
        parameters=[Paged],
        responses={200: shapes.page_of(shapes.DraftShape), **shapes.answers(400, 403, 404)},
    )
    def get(self, request: Request, organization_id: str) -> Response:
        membership = membership_for(request.user, organization_id, Permission.DRAFT)
        query = checked_query(Paged, request.query_params)
        rows = Modification.objects.drafts().filter(organization=membership.organization, author=membership.user)
        rows = rows.select_related("record")  # for the values of those at risk
        page = _ORDER.page(rows, limit=query["limit"], cursor=query.get("cursor"), scope=membership.pk)
        money = sees_money(membership)
        return Response(
            {"items": [draft_shape(each, money=money) for each in page.rows], "nextCursor": page.next_cursor}
        )

    @extend_schema(
        "save_drafts", request=BulkBody, responses={200: shapes.BulkSaved, **shapes.answers(400, 403, 404, 413, 415)}
    )
    def put(self, request: Request, organization_id: str) -> Response:
        """Each item on its own: what fails is reported in its place and leaves the others alone."""
        membership = membership_for(request.user, organization_id, Permission.DRAFT)
        checked_query(NoQuery, request.query_params)
        wanted = [_input(item["pfaId"], item) for item in checked(BulkBody, body_of(request))["items"]]
        results = save_drafts(membership=membership, wanted=wanted)
        items = [_bulk_item(item, result, membership) for item, result in zip(wanted, results, strict=True)]
        return Response({"items": items})

    @extend_schema("discard_drafts", request=None, responses={204: None, **shapes.answers(400, 403, 404)})
    def delete(self, request: Request, organization_id: str) -> Response:
        """All of mine in this organization."""
        membership = membership_for(request.user, organization_id, Permission.DRAFT)
        checked_query(NoQuery, request.query_params)
        discard_drafts(membership=membership)
        return Response(status=204)


class DraftView(Endpoint):
    @extend_schema("get_draft", responses={200: shapes.DraftShape, **shapes.answers(400, 403, 404)})
    def get(self, request: Request, organization_id: str, pfa_id: str) -> Response:
        membership = membership_for(request.user, organization_id, Permission.DRAFT)
        mine = Modification.objects.drafts().filter(organization=membership.organization, author=membership.user)
        draft = mine.filter(pfa_id=pfa_id).first()
        if draft is None:
            raise NotFoundError("You have no draft of this record.")
        checked_query(NoQuery, request.query_params)
        return Response(draft_shape(draft, money=sees_money(membership)))

    @extend_schema(
        "save_draft",
        request=DraftBody,
        responses={200: shapes.SavedDraftShape, **shapes.answers(400, 403, 404, 409, 413, 415)},
    )
    def put(self, request: Request, organization_id: str, pfa_id: str) -> Response:
        """Merges into my open draft of that record."""
        membership = membership_for(request.user, organization_id, Permission.DRAFT)
        _demand_record(membership, pfa_id)
        checked_query(NoQuery, request.query_params)
        wanted = _input(pfa_id, checked(DraftBody, body_of(request)))
        try:
            saved = save_draft(membership=membership, wanted=wanted)
        except StaleBaseError as error:
            raise StaleBaseError(error.message, details=_details(error, membership)) from error
        return Response(_saved_shape(saved, membership))

    @extend_schema("discard_draft", request=None, responses={204: None, **shapes.answers(400, 403, 404)})
    def delete(self, request: Request, organization_id: str, pfa_id: str) -> Response:
        membership = membership_for(request.user, organization_id, Permission.DRAFT)
        checked_query(NoQuery, request.query_params)
        discard_drafts(membership=membership, pfa_id=pfa_id)
        return Response(status=204)


def _demand_record(membership: Membership, pfa_id: str) -> None:
    """404 comes before everything that can be wrong with a body."""
    rows = Record.objects.for_organization(membership.organization).present()
    if not rows.filter(pfa_id=pfa_id).exists():
        raise NotFoundError


def _input(pfa_id: str, body: dict[str, Any]) -> DraftInput:
    return DraftInput(pfa_id, body["changes"], body["baseVersion"], body.get("reason", ""))


def _saved_shape(saved: SavedDraft, membership: Membership) -> dict[str, Any]:
    warnings = [each.as_wire() for each in saved.warnings]
    return {**draft_shape(saved.modification, money=sees_money(membership)), "warnings": warnings}


def _bulk_item(wanted: DraftInput, result: SavedDraft | DomainError, membership: Membership) -> dict[str, Any]:
    if isinstance(result, DomainError):
        details = _details(result, membership)
        return {"pfaId": wanted.pfa_id, "error": result.code, "message": result.message, "details": details}
    warnings = [each.as_wire() for each in result.warnings]
    return {"pfaId": wanted.pfa_id, "modificationId": str(result.modification.pk), "warnings": warnings}


def _details(error: DomainError, membership: Membership) -> Any:
    """A stale base shows the record as it stands now."""
    if not isinstance(error, StaleBaseError):
        return error.details
    record = error.details["record"]
    record.organization = membership.organization
    return {"fields": error.details["fields"], "record": present_records([record], membership)[0]}
