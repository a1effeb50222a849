"""The one parser of request bodies: JSON objects, nothing else, within bounds. What is wrong is said in a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.exceptions import APIException, ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

MOST_NESTED = 50


class BodyTooLargeError(APIException):
    status_code = 413
    default_code = "body_too_large"
    default_detail = "The request body is larger than 1 MB. Send less at once."


class StrictJSONParser(BaseParser):
    """RFC 8259 without its loopholes: UTF-8, finite numbers, unique keys, text that PostgreSQL and PEMS can hold."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        _demand_utf8(media_type or "")
        body = stream.read(settings.BODY_LIMIT_BYTES + 1)
        if len(body) > settings.BODY_LIMIT_BYTES:
            raise BodyTooLargeError
        data = _loads(body)
        if not isinstance(data, dict):
            raise ParseError("The request body must be a JSON object.")
        _demand_plain(data)
        return data


class JSONRequest(Request):
    """Reads the body as it comes: DRF trusts Content-Length, and takes a chunked body for an empty one."""

    def _load_stream(self) -> None:
        inner = self._request
        if getattr(inner, "_read_started", False) and not hasattr(inner, "_body"):
            raise UnsupportedMediaType(self.content_type)  # a form that the CSRF check has already read
        if inner.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnsupportedMediaType(f"{self.content_type} encoded as {inner.headers['Content-Encoding'][:50]}")
        body = inner.body if hasattr(inner, "_body") else inner.read(settings.BODY_LIMIT_BYTES + 1)
        self._stream = BytesIO(body) if body else None  # type: ignore[assignment]  # None: no body


def _demand_utf8(media_type: str) -> None:
    for parameter in media_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8"):
            raise UnsupportedMediaType(media_type)


def _loads(body: bytes) -> Any:
    try:
        return json.loads(
            body.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique
        )
    except UnicodeDecodeError as error:
        raise ParseError("The request body is not valid UTF-8.") from error
    except RecursionError as error:
        raise ParseError(f"The request body is nested deeper than {MOST_NESTED} levels.") from error
    except json.JSONDecodeError as error:
        raise ParseError(f"The request body is not valid JSON (line {error.lineno}, column {error.colno}).") from error
    except ValueError as error:  # an integer of thousands of digits
        raise ParseError("The request body contains a number that is too large.") from error


def _no_constant(name: str) -> NoReturn:
    raise ParseError(f"The request body contains {name}, which is not JSON.")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ParseError("The request body contains a number that is too large.")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ParseError("The request body names a key twice in one object.")
    return found


def _demand_plain(data: dict[str, Any]) -> None:
    """No NUL, no half of a surrogate pair, no towers. Walks without recursion."""
    level: list[Any] = [data]
    for _ in range(MOST_NESTED):
        below: list[Any] = []
        for each in level:
            below += _parts(each)
        if not below:
            return
        level = below
    raise ParseError(f"The request body is nested deeper than {MOST_NESTED} levels.")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, str) and not is_plain(value):
        raise ParseError("The request body contains a NUL character or broken Unicode.")
    return []


def is_plain(text: str) -> bool:
    return "\0" not in text and (text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text))
