"""Reads what PEMS says. Anything that cannot be read is said so, never guessed."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pems_sync.client.base import (
    BrokenRow,
    Busy,
    Confirmed,
    Drifted,
    Gone,
    Outcome,
    Page,
    PemsRecord,
    Rejected,
    Unknown,
    Write,
)
from pems_sync.fields import FIELDS, FieldError, Values

_LONGEST_WAIT_SECONDS = 3600.0


def parse_json(content: bytes) -> Any:
    """The JSON value, or None where there is none to read. Characters that no database can hold are left out."""
    try:
        said = json.loads(content, parse_constant=lambda _: None)
        return _storable(said) if _UNSTORABLE.search(content) else said
    except (ValueError, RecursionError):
        return None


_UNSTORABLE = re.compile(rb"\\u0000|\\u[dD][89a-fA-F]")


def _storable(said: Any) -> Any:
    """Without NUL and halves of surrogate pairs."""
    if isinstance(said, str):
        return said.replace("\0", "").encode("utf-8", "ignore").decode()
    if isinstance(said, list):
        return [_storable(each) for each in said]
    if isinstance(said, dict):
        return {_storable(name): _storable(value) for name, value in said.items()}
    return said


def retry_after_seconds(header: object, *, now: datetime | None = None) -> float | None:
    """Seconds to wait, from a number of seconds or an HTTP date; at most an hour."""
    if isinstance(header, bool) or not isinstance(header, str | int | float):
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(str(header)) - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, min(seconds, _LONGEST_WAIT_SECONDS)) if seconds == seconds else None


def outcome_of(write: Write, status: int, body: Any, retry_after: object) -> Outcome:
    """What one answer means for one write (PEMS_GATEWAY.md, the table of answers)."""
    said = body if isinstance(body, dict) else {}
    match status:
        case 200:
            return _confirmed(write, said)
        case 409:
            return Drifted(_version(said.get("currentVersion")))
        case 404:
            return Gone() if said.get("error") == "NOT_FOUND" else Unknown("a 404 that does not speak of the record")
        case 400 | 413 | 415 | 422:
            return _rejected(status, said)
        case 423 | 429 | 503:
            return Busy(_message(said, f"PEMS answered {status}"), retry_after_seconds(retry_after))
        case _:
            return Unknown(f"PEMS answered {status}")


def _confirmed(write: Write, said: dict[str, Any]) -> Outcome:
    version = _version(said.get("newVersion"))
    if said.get("success") is not True or version is None or said.get("pfaId") != write.pfa_id:
        return Unknown("PEMS answered 200 without saying what was applied")
    try:
        shown = said.get("record")
        record = record_of(shown, organization_code=write.organization_code, pfa_id=write.pfa_id) if shown else None
    except ValueError:
        record = None
    return Confirmed(version, _time(said.get("updatedAt")), record)


def _rejected(status: int, said: dict[str, Any]) -> Rejected:
    faults = said.get("fieldErrors") if isinstance(said.get("fieldErrors"), dict) else {}
    field = str(said.get("field") or next(iter(faults or {}), ""))[:64]
    message = _message(said, "") or "; ".join(f"{name}: {text}" for name, text in (faults or {}).items())
    return Rejected(str(said.get("error") or f"HTTP_{status}")[:64], message[:500] or f"PEMS answered {status}", field)


def _message(said: dict[str, Any], default: str) -> str:
    message = said.get("message")
    return message[:500] if isinstance(message, str) and message else default


def record_of(shown: Any, *, organization_code: str, pfa_id: str | None = None) -> PemsRecord:
    """A record as PEMS shows it. Raises ValueError for another organization's (N5), another record, or an unreadable one."""
    if not isinstance(shown, dict):
        raise ValueError("not a record")
    found, code, version = shown.get("pfaId"), shown.get("organizationCode"), _version(shown.get("version"))
    if not isinstance(found, str) or not found or len(found) > 64 or (pfa_id is not None and found != pfa_id):
        raise ValueError("not the record asked for")
    if code != organization_code:
        raise ValueError(f"belongs to another organization than {organization_code!r}")
    if version is None:
        raise ValueError("has no version")
    return PemsRecord(
        found,
        organization_code,
        version,
        _time(shown.get("updatedAt")),
        str(shown.get("updatedBy") or "")[:200],
        _fields(shown),
    )


def _fields(shown: dict[str, Any]) -> Values:
    values: Values = {}
    for name, field in FIELDS.items():
        try:
            values[name] = field.read(shown.get(name))
        except FieldError as error:
            raise ValueError(f"{name} {error.message}") from error
    return values


def page_of(body: Any, *, organization_code: str) -> Page:
    """A page of the list. Rows that cannot be read are kept apart with their reason."""
    if not isinstance(body, dict) or not isinstance(body.get("items"), list):
        raise ValueError("not a list of records")
    records: list[PemsRecord] = []
    broken: list[BrokenRow] = []
    for shown in body["items"]:
        try:
            records.append(record_of(shown, organization_code=organization_code))
        except ValueError as error:
            name = shown.get("pfaId") if isinstance(shown, dict) else None
            broken.append(BrokenRow(str(name)[:64], str(error)[:300]))
    cursor, total = body.get("nextCursor"), body.get("total")
    return Page(
        tuple(records),
        tuple(broken),
        str(cursor) if cursor else None,
        total if isinstance(total, int) and not isinstance(total, bool) else None,
        _time(body.get("serverTime")),
    )


def excerpt(body: Any) -> Any:
    """What explains an answer, without the record it may show: for the attempt ledger."""
    if not isinstance(body, dict):
        return None
    kept = {name: value for name, value in body.items() if name not in ("record", "results", "items")}
    return kept if len(json.dumps(kept, default=str)) <= 2000 else {"message": str(kept.get("message"))[:500]}


def _version(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**62 else None


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time
