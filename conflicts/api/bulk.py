"""Many conflicts resolved alike, in two requests: a preview, then exactly what it showed."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField, ListField

from conflicts import bulk
from conflicts.api.presenting import preview_shape, result_shape
from conflicts.models import Resolution
from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, body_of, member_by_body
from pems_sync.api.presenting import sees_money
from pems_sync.api.strict import Flag, Id, NoQuery, Said, Slug, Strict, Text, checked, checked_query
from pems_sync.drift import ConflictKind
from pems_sync.fields import FIELDS
from pems_sync.models import Membership
from pems_sync.models.organization import Permission


class ConflictFilter(Strict):
    field = ChoiceField(list(FIELDS), required=False)
    kind = ChoiceField([str(kind) for kind in ConflictKind], required=False)
    pattern = Text(required=False, max_length=300)
    author = Text(required=False, max_length=150)


class BulkResolveBody(Strict):
    organizationId = Slug()
    ids = ListField(child=Id(), required=False, min_length=1, max_length=bulk.MOST_AT_ONCE)
    filter = ConflictFilter(required=False, help_text="{} means all; the preview decides what they are")
    resolution = ChoiceField(["use_local", "use_pems", "merge"])
    preview = Flag()
    previewToken = Text(required=False, max_length=100_000, help_text="of the preview that is applied")
    comment = Said(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        either = {"ids", "filter"} & attrs.keys()
        if len(either) > 1 or (attrs["preview"] and not either):
            raise ValidationError({"ids": [ErrorDetail("give either ids or filter.", code="either")]})
        if attrs["preview"] and "previewToken" in attrs:
            raise ValidationError({"previewToken": [ErrorDetail("belongs to preview: false.", code="either")]})
        if not attrs["preview"] and "previewToken" not in attrs:
            raise ValidationError({"previewToken": [ErrorDetail("is required: ask for a preview.", code="required")]})
        return attrs


class BulkResolveView(Endpoint):
    @extend_schema(
        "bulk_resolve_conflicts",
        request=BulkResolveBody,
        responses={
            200: PolymorphicProxySerializer(
                component_name="BulkResolution",
                serializers=[shapes.BulkPreviewShape, shapes.BulkResolvedShape],
                resource_type_field_name=None,
            ),
            **shapes.answers(400, 403, 404, 413, 415),
        },
    )
    def post(self, request: Request) -> Response:
        """With preview: what would happen to each, at most 500, and a token good for 15 minutes. With that token: each on
        its own, and what changed since is skipped."""
        membership = member_by_body(request, body_of(request), Permission.RESOLVE)
        checked_query(NoQuery, request.query_params)
        body = checked(BulkResolveBody, body_of(request))
        return Response(_previewed(membership, body) if body["preview"] else _applied(membership, body))


def _previewed(membership: Membership, body: dict[str, Any]) -> dict[str, Any]:
    selection = bulk.Selection(ids=body.get("ids"), **body.get("filter", {}))
    shown = bulk.preview(membership=membership, selection=selection, resolution=Resolution(body["resolution"]))
    return preview_shape(shown, money=sees_money(membership))


def _applied(membership: Membership, body: dict[str, Any]) -> dict[str, Any]:
    promise = bulk.promised(membership=membership, token=body["previewToken"])
    if promise.resolution != body["resolution"]:
        problem = ErrorDetail(f"is not that of the preview, which is {promise.resolution}.", code="either")
        raise ValidationError({"resolution": [problem]})
    result = bulk.apply(
        membership=membership, token=body["previewToken"], only=body.get("ids"), comment=body.get("comment", "")
    )
    return result_shape(result)
