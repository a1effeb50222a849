"""The one HTTP endpoint of the app: a ticket for a socket."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from knox.models import AuthToken
from redis import RedisError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, body_of, member_by_body
from pems_sync.api.strict import NoQuery, Slug, Strict, checked, checked_query
from pems_sync.errors import DomainError
from pems_sync.models import Membership
from pems_sync.models.organization import Permission
from realtime import tickets
from realtime.tickets import Visitor


class TicketUnavailableError(DomainError):
    """No ticket can be issued at the moment. Try again in a few seconds."""

    code, status = "REALTIME_UNAVAILABLE", 503


class TicketBody(Strict):
    organizationId = Slug(help_text="slug of the organization")


class Ticket(Strict):
    ticket = serializers.CharField(help_text="for one connection within 30 seconds: `?ticket=`")


class TicketView(Endpoint):
    @extend_schema(
        operation_id="issue_socket_ticket",
        tags=["realtime"],
        summary="A one-time ticket for the socket of an organization",
        request=TicketBody,
        responses={200: Ticket, **shapes.answers(400, 404, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        body = body_of(request)
        membership = member_by_body(request, body, Permission.READ)
        checked_query(NoQuery, request.query_params)
        checked(TicketBody, body)
        try:
            ticket = tickets.issue(_visitor(request, membership))
        except RedisError as error:
            raise TicketUnavailableError from error
        return Response({"ticket": ticket})


def _visitor(request: Request, membership: Membership) -> Visitor:
    """Remembers how the person signed in: the socket ends when that does."""
    if isinstance(request.auth, AuthToken):
        return Visitor(membership.user_id, membership.organization_id, token_digest=request.auth.digest)
    return Visitor(membership.user_id, membership.organization_id, session_key=request.session.session_key or "")
