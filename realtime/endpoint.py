"""ASGI application of one socket. Accepts first and closes then: before that, a browser sees no code (FACTS).

Plain ASGI and no Channels consumer: that would hold a Redis subscription per socket, and 10,000 of them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from django.db import DatabaseError
from redis import RedisError

from realtime.admission import Scope, admit, caller_of
from realtime.close_codes import CloseCode, RefusedError
from realtime.hub import hub_of_this_process
from realtime.reading import in_thread
from realtime.socket import Receive, Send

log = structlog.get_logger(__name__)
CLOSE_SECONDS = 5.0


async def sync_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """`/api/ws/sync/<organization>`."""
    send_safely = _without_runtime_errors(send)
    try:
        await receive()  # websocket.connect
        await send_safely({"type": "websocket.accept"})
        code = await _serve(scope, receive, send_safely)
        if code is not None:
            await _close(send, code)
    except ConnectionError:
        return  # the client is gone


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Every other socket path: a plain 403 of the handshake."""
    await receive()
    await send({"type": "websocket.close"})


async def _serve(scope: Scope, receive: Receive, send: Send) -> CloseCode | None:
    slug = scope["url_route"]["kwargs"]["organization_id"]
    try:
        admission = await in_thread(admit, caller_of(scope), slug)
        async with hub_of_this_process().socket(admission, slug, send) as socket:
            return await socket.live(receive)
    except RefusedError as refusal:
        return refusal.code
    except (DatabaseError, RedisError) as error:
        log.warning("socket_not_served", error=type(error).__name__)
        return CloseCode.TRY_LATER


async def _close(send: Send, code: CloseCode) -> None:
    """A client that does not read cannot be sent a code either: it gets a few seconds, then the line is cut."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await _without_runtime_errors(send)({"type": "websocket.close", "code": int(code), "reason": code.name})
    except TimeoutError:
        _cut(send)


def _cut(send: Send) -> None:
    """uvicorn would wait for ever to get rid of what it has buffered. ASGI has no word for this, so look behind it."""
    transport: Any = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()


def _without_runtime_errors(send: Send) -> Send:
    """Servers say OSError for a client that left, and RuntimeError for one that they just closed themselves."""

    async def careful(message: dict[str, Any]) -> None:
        try:
            await send(message)
        except TimeoutError:
            raise
        except (OSError, RuntimeError) as error:
            raise ConnectionResetError from error

    return careful
