"""From PEMS to here: a person asks for a pull, PEMS itself says what has changed."""

from __future__ import annotations

from io import BytesIO

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ListField

from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, OpenEndpoint, body_of, member_by_body
from pems_sync.api.parsing import BodyTooLargeError, StrictJSONParser
from pems_sync.api.strict import Flag, Slug, Strict, Text, checked
from pems_sync.inbound.asking import request_pull
from pems_sync.models.organization import Permission
from pems_sync.webhooks import Notice, sender_of, take_in

MOST_IDS = 10_000


class PullBody(Strict):
    organizationId = Slug()
    full = Flag(required=False, default=False, help_text="every record, not only what changed")


class PullView(Endpoint):
    @extend_schema(
        "pull",
        request=PullBody,
        responses={202: shapes.PullStarted, **shapes.answers(400, 403, 404, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """Starts a pull, and answers at once. While one is under way that somebody asked for, it is that one."""
        body = body_of(request)
        membership = member_by_body(request, body, Permission.SYNC)
        job = request_pull(membership=membership, full=checked(PullBody, body)["full"])
        return Response({"jobId": str(job.pk)}, status=202)


class EventBody(Strict):
    """What PEMS sends. Keys it may add one day are left alone."""

    id = Text(max_length=200)
    event = Text(max_length=100)
    organizationCode = Text(max_length=100)
    pfaIds = ListField(child=Text(max_length=64), max_length=MOST_IDS)


_KEYS = ("id", "event", "organizationCode", "pfaIds")


def _header(name: str) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, OpenApiParameter.HEADER, required=True)


class WebhookView(OpenEndpoint):
    """No sign-in, no cookie, no limit per user: the signature over the very bytes says who speaks."""

    @extend_schema(
        "receive_webhook",
        parameters=[_header("X-PEMS-Timestamp"), _header("X-PEMS-Signature")],
        request=EventBody,
        responses={
            202: OpenApiResponse(shapes.Noted, "will be read"),
            200: OpenApiResponse(shapes.Noted, "was noted before: nothing changes"),
            **shapes.answers(400, 401, 413),
        },
    )
    def post(self, request: Request, connection_id: str) -> Response:
        raw = request._request.read(settings.BODY_LIMIT_BYTES + 1)
        if len(raw) > settings.BODY_LIMIT_BYTES:
            raise BodyTooLargeError
        said = request.headers
        connection = sender_of(
            connection_id,
            timestamp=said.get("X-PEMS-Timestamp", ""),
            signature=said.get("X-PEMS-Signature", ""),
            body=raw,
        )
        is_new = take_in(connection, _notice(raw))
        return Response({"success": True}, status=202 if is_new else 200)


def _notice(raw: bytes) -> Notice:
    """Raises ParseError and ValidationError: signed, and yet not to be read."""
    data = StrictJSONParser().parse(BytesIO(raw))
    known = checked(EventBody, {name: data[name] for name in _KEYS if name in data})
    return Notice(known["id"], known["event"], known["organizationCode"], known["pfaIds"])
