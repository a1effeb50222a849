"""Every error under /api/ has one form: `{"error", "message", "requestId", "details"}`. Internals stay in the log."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response

from pems_sync.api.parsing import BodyTooLargeError
from pems_sync.errors import DomainError

_CODES = {
    400: "BAD_REQUEST",
    401: "NOT_SIGNED_IN",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    413: "BODY_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "TOO_MANY_REQUESTS",
    500: "INTERNAL_ERROR",
    503: "UNAVAILABLE",
}
_SENTENCES = {
    400: "The request cannot be read.",
    401: "You are not signed in.",
    403: "You may not do this.",
    404: "There is no such thing, or it is not yours to see.",
    405: "This address does not take that method.",
    413: "The request body is larger than 1 MB. Send less at once.",
    429: "Too many requests. Wait a moment.",
    500: "Something went wrong on our side. Try again, or tell support the request id.",
}


def envelope(
    request: HttpRequest | None, *, code: str, message: str, details: Any = None, **more: Any
) -> dict[str, Any]:
    """The body of an error."""
    request_id = getattr(request, "request_id", "")
    return {"error": code, "message": message, "requestId": request_id, "details": details, **more}


def handle(exc: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER. None for what nobody expected: Django logs it, and the middleware answers."""
    request = context.get("request")
    exc = _known(exc)
    if isinstance(exc, DomainError):
        waits = {"success": False, **(exc.details or {})} if exc.status < 400 else {}  # accepted, for another to decide
        body = envelope(request, code=exc.code, message=exc.message, details=exc.details, **waits)
        return Response(body, status=exc.status)
    if isinstance(exc, exceptions.ValidationError):
        fields = list(_flattened(exc.detail))
        body = envelope(request, code="INVALID_REQUEST", message=_said_of(fields), details={"fields": fields})
        return Response(body, status=400)
    if isinstance(exc, exceptions.APIException):
        return _api_error(exc, request)
    return None


def _known(exc: Exception) -> Exception:
    """Django's own refusals as DRF's."""
    match exc:
        case RequestDataTooBig():
            return BodyTooLargeError()
        case Http404():
            return exceptions.NotFound(_SENTENCES[404])
        case PermissionDenied():
            return exceptions.PermissionDenied(_SENTENCES[403])
        case (
            SuspiciousOperation() | BadRequest() | MultiPartParserError() | UnreadablePostError() | UnicodeDecodeError()
        ):
            return exceptions.ParseError(_SENTENCES[400])
        case _:
            return exc


def _api_error(exc: exceptions.APIException, request: Any) -> Response:
    code = getattr(exc, "error_code", None) or _CODES.get(exc.status_code, "BAD_REQUEST")
    message = str(exc.detail)
    if isinstance(exc, exceptions.NotAuthenticated):
        message = "You are not signed in: send a bearer token, or sign in with the browser."
    if isinstance(exc, exceptions.Throttled):
        message = "Too many requests. Wait a moment, then go on more slowly."
    response = Response(envelope(request, code=code, message=message), status=exc.status_code)
    if getattr(exc, "auth_header", None):
        response["WWW-Authenticate"] = exc.auth_header  # type: ignore[attr-defined]  # set by APIView.handle_exception
    if isinstance(exc, exceptions.Throttled):
        response["Retry-After"] = str(max(1, math.ceil(getattr(exc, "wait", None) or 1)))
    return response


_FIELD_CODES = {
    "unknown": "UNKNOWN_FIELD",
    "required": "MISSING_REQUIRED_FIELD",
    "blank": "MISSING_REQUIRED_FIELD",
    "null": "INVALID_TYPE",
    "invalid": "INVALID_TYPE",
    "not_a_list": "INVALID_TYPE",
    "not_a_dict": "INVALID_TYPE",
    "max_length": "TOO_LONG",
    "min_value": "INVALID_RANGE",
    "max_value": "INVALID_RANGE",
    "min_length": "INVALID_RANGE",
    "empty": "INVALID_RANGE",
    "invalid_choice": "INVALID_ENUM_VALUE",
}


def _flattened(detail: Any, path: str = "") -> Iterator[dict[str, str]]:
    """`items[3].baseVersion` for each thing that is wrong."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            name = "" if key == "non_field_errors" else f"[{key}]" if isinstance(key, int) else str(key)
            yield from _flattened(value, f"{path}.{name}".strip(".") if not name.startswith("[") else path + name)
    elif isinstance(detail, list):
        for position, each in enumerate(detail):
            nested = isinstance(each, dict | list)
            yield from _flattened(each, f"{path}[{position}]" if nested else path)
    else:
        code = _FIELD_CODES.get(str(getattr(detail, "code", "")), "INVALID_VALUE")
        yield {"field": path, "code": code, "message": str(detail)}


def _said_of(fields: list[dict[str, str]]) -> str:
    if not fields:
        return _SENTENCES[400]
    first = fields[0]
    more = f" ({len(fields) - 1} more in details)" if len(fields) > 1 else ""
    where = f"{first['field']}: " if first["field"] else ""
    return f"{where}{first['message']}{more}"[:500]


class EnvelopeMiddleware:
    """Answers that did not pass through DRF: Django's 400, 403, 404 and 500 pages."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        foreign = not str(response.headers.get("Content-Type", "")).startswith("application/json")
        if request.path_info.startswith("/api/") and response.status_code >= 400 and foreign:
            return plain_error(request, response.status_code)
        return response


def plain_error(request: HttpRequest, status: int) -> JsonResponse:
    code = _CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
    message = _SENTENCES.get(status, _SENTENCES[400] if status < 500 else _SENTENCES[500])
    return JsonResponse(envelope(request, code=code, message=message), status=status)


@csrf_exempt
def no_such_path(request: HttpRequest) -> JsonResponse:
    """The view of every address under /api/ that has none."""
    return plain_error(request, 404)
