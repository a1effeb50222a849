"""Answers, and the ways in which they fail to arrive."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .jsontext import to_json


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, to_json(body), headers=headers or {})


def html_answer(status: int, text: str) -> Answer:
    """What a proxy or a web server in between says."""
    return Answer(status, f"<html><body><h1>{status} {text}</h1></body></html>".encode(), "text/html")


def whole(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status, body=answer.body, content_type=answer.content_type, headers=answer.headers or None
    )


def unreadable() -> web.Response:
    """A 200 whose body is not what its header says."""
    return web.Response(status=200, body=b'{"success":tru\xff\xfe\x00', content_type="application/json")


def cut(request: web.Request) -> web.Response:
    """Closes the connection before a byte of an answer; the response it returns goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def half(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Half of the body under a header that promises all of it, then the end of the connection."""
    headers = {**answer.headers, "Content-Length": str(len(answer.body)), "Content-Type": answer.content_type}
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
