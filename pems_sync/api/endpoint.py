"""What all views share: the body as it is read, the headers of the answer, and ids that cannot be ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pems_sync.access import membership_for
from pems_sync.api.parsing import JSONRequest
from pems_sync.api.texts import is_printable
from pems_sync.errors import NotFoundError
from pems_sync.models import Membership
from pems_sync.models.organization import Permission


class AlwaysJSON(BaseContentNegotiation):
    """Whatever a client accepts, it gets JSON: also its errors. A list that exists as CSV looks at Accept itself."""

    def select_parser(self, request: Request, parsers: Any) -> BaseParser | None:
        return next((each for each in parsers if _media_type(request) == each.media_type), None)

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = JSONRenderer()
        return renderer, str(renderer.media_type)


def _media_type(request: Request) -> str:
    return str(request.content_type).split(";")[0].strip().lower()


class Endpoint(APIView):
    content_negotiation_class = AlwaysJSON
    metadata_class = None  # OPTIONS is not part of the interface

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        return JSONRequest(
            request,
            parsers=self.get_parsers(),
            authenticators=self.get_authenticators(),
            negotiator=self.get_content_negotiator(),
            parser_context=self.get_parser_context(request),
        )

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if any(isinstance(value, str) and not is_printable(value) for value in kwargs.values()):
            raise NotFoundError  # no database holds such an id

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        allowance = getattr(request, "allowance", None)
        for name, value in (allowance.headers() if allowance else {}).items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
        return response


class OpenEndpoint(Endpoint):
    """Needs no sign-in, and looks at none."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()


def id_from(text: str) -> UUID:
    """An id in a path. What is none belongs to nothing."""
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFoundError from error


def body_of(request: Request) -> dict[str, Any]:
    """The parser lets nothing but objects through. Call it behind the access gate: it may raise 400, 413, 415."""
    data = request.data
    return data if isinstance(data, dict) else {}


def member_by_query(request: Request, permission: Permission = Permission.READ) -> Membership:
    """Through the one `organizationId` of the query string. Said before anything else about the query (API.md)."""
    slugs = request.query_params.getlist("organizationId")
    if len(slugs) > 1:
        raise ValidationError({"organizationId": [ErrorDetail("is given twice.", code="repeated")]})
    return _member(request, slugs[0] if slugs else None, permission)


def member_by_body(request: Request, body: Mapping[str, Any], permission: Permission) -> Membership:
    """Through the `organizationId` of the body."""
    return _member(request, body.get("organizationId"), permission)


def _member(request: Request, slug: object, permission: Permission) -> Membership:
    if slug is None:
        raise ValidationError({"organizationId": [ErrorDetail("is required.", code="required")]})
    if not isinstance(slug, str):
        raise ValidationError({"organizationId": [ErrorDetail("must be text.", code="invalid")]})
    if not is_printable(slug):
        raise NotFoundError
    return membership_for(request.user, slug, permission)
