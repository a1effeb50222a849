"""JSON as it goes over the wire and into files."""

import json
from typing import Any

_encode = json.JSONEncoder(separators=(",", ":")).encode


def to_json(value: Any) -> bytes:
    """Compact and pure ASCII, so that even a lone surrogate sent by a client can be shown again."""
    return _encode(value).encode("ascii")


def from_json(body: bytes) -> Any:
    """Raises ValueError for anything that is not JSON: bad UTF-8, NaN, nesting without end."""
    try:
        return json.loads(body, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
