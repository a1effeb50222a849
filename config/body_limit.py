"""A ceiling under the whole HTTP side: Django keeps a body on disk before it asks anybody, however large it is.

Well above the 1 MB of the API's parser: what is merely too large is still refused in the right order (401 first).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any
from uuid import uuid4

from config.errors import envelope

CEILING_BYTES = 8_000_000

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Coroutine[Any, Any, None]]


class _TooLargeError(Exception):
    """The body went over the ceiling while it was read."""


def with_body_ceiling(application: Application) -> Application:
    """An ASGI application that answers 413 and stops reading where a body goes over the ceiling."""

    async def bounded(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > CEILING_BYTES:
                raise _TooLargeError
            return message

        try:
            await application(scope, counted, send)
        except _TooLargeError:
            await _refuse(send)

    return bounded


async def _refuse(send: Send) -> None:
    body = envelope(None, code="BODY_TOO_LARGE", message="The request body is far larger than 1 MB. Send less at once.")
    content = json.dumps({**body, "requestId": uuid4().hex}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": content})
