"""My organizations; an administrator pauses and resumes the queue of one."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from pems_sync.access import membership_for, memberships_of
from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, body_of
from pems_sync.api.paging import Order
from pems_sync.api.status import is_paused
from pems_sync.api.strict import Paged, Said, Strict, checked, checked_query
from pems_sync.models import Membership, Organization
from pems_sync.models.organization import Permission
from pems_sync.services import people

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


def _pause_shape(organization: Organization) -> dict[str, Any]:
    row = Organization.objects.select_related("connection").get(pk=organization.pk)
    reason = row.paused_reason or row.connection.paused_reason
    return {"organizationId": row.slug, "paused": is_paused(row), "reason": reason or None}
