"""One HTTP request, and whether its bytes can have left: the line between a fault and an unknown outcome."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Timer
from time import monotonic
from typing import Any
from weakref import WeakSet

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from pems_sync import crashpoints
from pems_sync.client.base import Unknown

CONNECT_SECONDS = 3.0
ANSWER_LIMIT_BYTES = 32_000_000


@dataclass(frozen=True)
class Answer:
    """A complete answer."""

    status: int
    content: bytes
    retry_after: str | None


@dataclass(frozen=True)
class NotSent:
    """The connection was never made: nothing was executed."""

    message: str


Sent = Answer | NotSent | Unknown

_BEFORE_SENDING = (
    urllib3.exceptions.NewConnectionError,  # refused, unreachable, name not known
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.LocationParseError,
)


class BoundedAdapter(HTTPAdapter):
    """Never resends, and can cut what is under way: a timeout of `requests` bounds each wait for bytes, not their sum, so
    that an answer which drips would hold its worker beyond its lease."""

    def __init__(self) -> None:
        self._made: WeakSet[HTTPConnection] = WeakSet()
        super().__init__(max_retries=0, pool_maxsize=2)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        made = self._made

        class Http(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                made.add(self)

        class Https(HTTPSConnection):
            def connect(self) -> None:
                try:
                    super().connect()
                except (ssl.SSLError, ValueError) as error:  # the handshake, the certificate: nothing was sent
                    raise urllib3.exceptions.NewConnectionError(self, f"no TLS: {error}") from error
                made.add(self)

        pools = {"http": (urllib3.HTTPConnectionPool, Http), "https": (urllib3.HTTPSConnectionPool, Https)}
        self.poolmanager.pool_classes_by_scheme = {
            scheme: type("BoundedPool", (pool,), {"ConnectionCls": connection})
            for scheme, (pool, connection) in pools.items()
        }

    def cut(self) -> None:
        for connection in list(self._made):
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def _cut_after(session: requests.Session, url: str, seconds: float) -> Iterator[None]:
    adapter = session.get_adapter(url)
    timer = Timer(seconds, adapter.cut if isinstance(adapter, BoundedAdapter) else adapter.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def send(session: requests.Session, request: requests.Request, *, total_seconds: float) -> Sent:
    """Bounded in total: headers within the time, the body read in pieces against the same deadline."""
    deadline = monotonic() + total_seconds
    timeout = (min(CONNECT_SECONDS, total_seconds), total_seconds)
    try:
        prepared = session.prepare_request(request)
    except (requests.exceptions.RequestException, ValueError) as error:
        return NotSent(f"{request.url} is not a usable address, or its headers cannot be sent ({type(error).__name__})")
    try:
        with (
            _cut_after(session, str(prepared.url), total_seconds),
            session.send(prepared, stream=True, timeout=timeout, allow_redirects=False) as response,
        ):
            crashpoints.reached("after_applied", str(request.url).rpartition("/")[2])
            content = _read(response, deadline)
            return Answer(response.status_code, content, response.headers.get("Retry-After"))
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError):
        return NotSent(f"{request.url} is not a usable address, or its headers cannot be sent")
    except requests.exceptions.ConnectTimeout as error:
        return NotSent(_unreachable(request, error))
    except requests.exceptions.ConnectionError as error:
        if _never_connected(error):
            return NotSent(_unreachable(request, error))
        return Unknown("the connection was lost after the request was sent")
    except requests.exceptions.Timeout:
        return Unknown(f"no answer within {total_seconds:g} s")
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, _TooLateError) as error:
        return Unknown(f"the answer broke off ({type(error).__name__})")


class _TooLateError(Exception):
    """The answer took longer, or was larger, than is waited for."""


def _read(response: requests.Response, deadline: float) -> bytes:
    pieces: list[bytes] = []
    size = 0
    for piece in response.iter_content(65536):
        pieces.append(piece)
        size += len(piece)
        if monotonic() > deadline or size > ANSWER_LIMIT_BYTES:
            raise _TooLateError
    content = b"".join(pieces)
    announced = response.headers.get("Content-Length")
    if (
        announced
        and announced.isdigit()
        and "Content-Encoding" not in response.headers
        and len(content) != int(announced)
    ):
        raise _TooLateError
    return content


def _never_connected(error: requests.exceptions.ConnectionError) -> bool:
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    return isinstance(reason, _BEFORE_SENDING)


def _unreachable(request: requests.Request, error: Exception) -> str:
    scheme, _, rest = str(request.url).partition("://")
    return f"PEMS cannot be reached at {scheme}://{rest.split('/')[0]} ({type(error).__name__})"
