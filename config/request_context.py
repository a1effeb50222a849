"""Gives every request an id and remembers who asked from where, for the journal and the log."""

from collections.abc import Callable
from uuid import uuid4

import structlog
from django.http import HttpRequest, HttpResponse

from pems_sync.origin import Origin, origin_of_work


class RequestContextMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = uuid4().hex  # never the client's: a forged id would blur the journal
        request.request_id = request_id  # type: ignore[attr-defined]  # read by config.errors
        origin = Origin(request_id=request_id, address=request.META.get("REMOTE_ADDR") or "")
        with origin_of_work(origin), structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self.get_response(request)
        response.headers["X-Request-Id"] = request_id
        return response
