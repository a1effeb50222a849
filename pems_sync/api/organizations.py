"""My organizations; an administrator pauses and resumes the queue of one, and orders the breaker of its connection."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField

from pems_sync.access import managed_connection, membership_for, memberships_of
from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, body_of
from pems_sync.api.paging import Order
from pems_sync.api.status import is_paused
from pems_sync.api.strict import Paged, Said, Strict, checked, checked_query
from pems_sync.models import Connection, Membership, Organization
from pems_sync.models.organization import Permission
from pems_sync.services import breaking, people

_ORDER = Order("organizations", ("organization_id",))


class OrganizationsView(Endpoint):
    @extend_schema(
        "list_organizations",
        parameters=[Paged],
        responses={200: shapes.page_of(shapes.OrganizationShape), **shapes.answers(400)},
    )
    def get(self, request: Request) -> Response:
        query = checked_query(Paged, request.query_params)
        mine = memberships_of(request.user).filter(permissions__contains=[Permission.READ])
        page = _ORDER.page(mine, limit=query["limit"], cursor=query.get("cursor"), scope=request.user.pk)
        return Response({"items": [_shape(each) for each in page.rows], "nextCursor": page.next_cursor})


def _shape(membership: Membership) -> dict[str, Any]:
    organization = membership.organization
    shape = {
        "organizationId": organization.slug,
        "code": organization.code,
        "name": organization.name,
        "role": membership.role,
        "permissions": list(membership.permissions),
        "paused": is_paused(organization),
    }
    if membership.allows(Permission.MANAGE):
        shape["connectionId"] = organization.connection.slug
    return shape


class PauseBody(Strict):
    reason = Said()


class Nothing(Strict):
    """A body with nothing in it."""


class PauseView(Endpoint):
    @extend_schema(
        "pause_organization",
        request=PauseBody,
        responses={200: shapes.Pause, **shapes.answers(400, 403, 404, 413, 415)},
    )
    def post(self, request: Request, organization_id: str) -> Response:
        """Edits are still accepted; nothing of this organization is sent."""
        membership = membership_for(request.user, organization_id, Permission.MANAGE)
        reason = checked(PauseBody, body_of(request))["reason"]
        people.pause(organization=membership.organization, user=membership.user, reason=reason)
        return Response(_pause_shape(membership.organization))


class ResumeView(Endpoint):
    @extend_schema(
        "resume_organization", request=None, responses={200: shapes.Pause, **shapes.answers(400, 403, 404, 413, 415)}
    )
    def post(self, request: Request, organization_id: str) -> Response:
        """Lifts the pause of the organization and an automatic one of its connection."""
        membership = membership_for(request.user, organization_id, Permission.MANAGE)
        checked(Nothing, body_of(request))
        people.resume(organization=membership.organization, user=membership.user)
        return Response(_pause_shape(membership.organization))


class BreakerBody(Strict):
    order = ChoiceField(["open", "closed", "auto"], help_text="auto: the machine decides")
    reason = Said(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["order"] != "auto" and not attrs.get("reason"):
            raise ValidationError({"reason": [ErrorDetail("is required.", code="required")]})
        return attrs


class BreakerView(Endpoint):
    @extend_schema(
        "order_breaker",
        request=BreakerBody,
        responses={200: shapes.BreakerShape, **shapes.answers(400, 403, 404, 413, 415)},
    )
    def post(self, request: Request, organization_id: str) -> Response:
        """For the whole connection: `open` keeps PEMS quiet, `closed` sends although it looks bad. Needs `manage` in every
        organization that shares it."""
        membership = membership_for(request.user, organization_id, Permission.MANAGE)
        connection = managed_connection(membership)
        wanted = checked(BreakerBody, body_of(request))
        actor = membership.user.get_username()
        breaking.order(connection, order=breaking.ORDERS[wanted["order"]], reason=wanted.get("reason", ""), actor=actor)
        return Response(_breaker_shape(membership.organization, connection))


def _breaker_shape(organization: Organization, connection: Connection) -> dict[str, Any]:
    return {
        "organizationId": organization.slug,
        "breaker": breaking.state_of(connection),
        "order": connection.breaker_override or "auto",
        "reason": connection.breaker_override_reason or None,
    }


def _pause_shape(organization: Organization) -> dict[str, Any]:
    row = Organization.objects.select_related("connection").get(pk=organization.pk)
    reason = row.paused_reason or row.connection.paused_reason
    return {"organizationId": row.slug, "paused": is_paused(row), "reason": reason or None}
