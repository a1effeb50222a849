"""The sockets of the project, as one ASGI application."""

from __future__ import annotations

from channels.routing import URLRouter
from django.urls import path, re_path

from realtime.admission import Scope
from realtime.endpoint import refuse, sync_socket
from realtime.socket import Receive, Send

_router = URLRouter(
    [
        path("api/ws/sync/<slug:organization_id>", sync_socket),  # type: ignore[arg-type]  # ASGI, not a view
        re_path("", refuse),  # type: ignore[arg-type]
    ]
)


async def sockets(scope: Scope, receive: Receive, send: Send) -> None:
    """Takes the query string out of the server's sight, which logs it on accepting: it may hold a ticket."""
    inner = dict(scope)
    scope["query_string"] = b""
    await _router(inner, receive, send)
