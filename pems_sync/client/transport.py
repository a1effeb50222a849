"""One HTTP request, and whether its bytes can have left: the line between a fault and an unknown outcome."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

import requests
import urllib3

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
    urllib3.exceptions.SSLError,
    urllib3.exceptions.LocationParseError,
)


def send(session: requests.Session, request: requests.Request, *, total_seconds: float) -> Sent:
    """Bounded in total: headers within the time, the body read in pieces against the same deadline."""
    deadline = monotonic() + total_seconds
    timeout = (min(CONNECT_SECONDS, total_seconds), total_seconds)
    try:
        prepared = session.prepare_request(request)
    except (requests.exceptions.RequestException, ValueError) as error:
        return NotSent(f"{request.url} is not a usable address, or its headers cannot be sent ({type(error).__name__})")
    try:
        with session.send(prepared, stream=True, timeout=timeout, allow_redirects=False) as response:
            crashpoints.reached("after_applied")
            content = _read(response, deadline)
            return Answer(response.status_code, content, response.headers.get("Retry-After"))
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError):
        return NotSent(f"{request.url} is not a usable address, or its headers cannot be sent")
    except (requests.exceptions.ConnectTimeout, requests.exceptions.SSLError) as error:
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
