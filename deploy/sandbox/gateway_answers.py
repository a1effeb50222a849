"""The words of the `gateway` dialect."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, assert_never

from .faultplan import Fault
from .fields import Record
from .jsontext import to_json
from .wire import Answer, html_answer, json_answer
from .writes import Applied, BrokenRule, Invalid, Missing, Outcome, Stale

HEALTHY = json_answer(200, {"status": "ok"})
NOT_FOUND = json_answer(404, {"error": "NOT_FOUND"})


class RecordText:
    """The JSON text of each record, made once per version: a page of 1,000 must not hold up other requests."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._texts = {record["pfaId"]: (record, to_json(record)) for record in records}

    def of(self, record: Record) -> bytes:
        known = self._texts.get(record["pfaId"])
        if known is not None and known[0] is record:
            return known[1]
        text = to_json(record)
        self._texts[record["pfaId"]] = (record, text)
        return text


@dataclass(frozen=True, slots=True)
class Result:
    """A single answer, or one item of a batch: the same fields, as JSON text without the outer braces."""

    pfa_id: str
    status: int
    fields: bytes
    retry_after: str | None = None
    is_left_out: bool = False
    """A fault: the batch answers without it."""


@dataclass(frozen=True, slots=True)
class About:
    """What an injected refusal needs to look like a real one."""

    pfa_id: str
    version: int | None
    fields: list[str]


def result(outcome: Outcome, text: RecordText, *, with_record: bool = True) -> Result:
    match outcome:
        case Applied(record):
            return _applied(record, text, with_record)
        case Stale(pfa_id, current, expected, fields):
            return Result(pfa_id, 409, _conflict(current, expected, fields))
        case Invalid(pfa_id, errors):
            return Result(pfa_id, 400, _fields(error="INVALID_REQUEST", message=_sentence(errors), fieldErrors=errors))
        case BrokenRule(pfa_id, message, field):
            return Result(pfa_id, 422, _fields(error="BUSINESS_RULE", message=message, field=field))
        case Missing(pfa_id):
            return Result(pfa_id, 404, _fields(error="NOT_FOUND"))
    assert_never(outcome)


def single(result: Result) -> Answer:
    headers = {"Retry-After": result.retry_after} if result.retry_after is not None else {}
    return Answer(result.status, b"{%b}" % result.fields, headers=headers)


def batch(results: Sequence[Result]) -> Answer:
    return Answer(200, b'{"results":[%b]}' % b",".join(_item(result) for result in results if not result.is_left_out))


def page(texts: Sequence[bytes], records: Sequence[Record], total: int, has_more: bool, server_time: str) -> Answer:
    cursor = _cursor_after(records[-1]) if has_more else None
    rest = _fields(nextCursor=cursor, serverTime=server_time, total=total)
    return Answer(200, b'{"items":[%b],%b}' % (b",".join(texts), rest))


def position_of(cursor: str) -> tuple[str, str]:
    """The (updatedAt, pfaId) that a cursor stands for. Raises ValueError."""
    try:
        updated_at, separator, pfa_id = urlsafe_b64decode(cursor.encode()).decode().partition("|")
    except binascii.Error as error:
        raise ValueError("not a cursor") from error
    if not separator:
        raise ValueError("not a cursor")
    return updated_at, pfa_id


def bad_request(message: str) -> Answer:
    return json_answer(400, {"error": "INVALID_REQUEST", "message": message, "fieldErrors": {}})


def invalid(outcome: Invalid) -> Answer:
    return json_answer(
        400, {"error": "INVALID_REQUEST", "message": _sentence(outcome.errors), "fieldErrors": outcome.errors}
    )


def rate_limited(limit: int) -> Answer:
    body = {"error": "RATE_LIMITED", "message": f"more than {limit} requests in one second"}
    return json_answer(429, body, {"Retry-After": "1"})


def injected(status: int, about: About, fault: Fault, now: float) -> Answer:
    """A whole request refused without a reason in the records."""
    if status in (502, 504):
        return html_answer(status, "Bad Gateway" if status == 502 else "Gateway Timeout")
    return single(injected_result(status, about, fault, now))


def injected_result(status: int, about: About, fault: Fault, now: float) -> Result:
    first = about.fields[0] if about.fields else "pfaId"
    said: dict[int, dict[str, Any]] = {
        400: {"error": "INVALID_REQUEST", "message": f"{first}: injected", "fieldErrors": {first: "injected"}},
        401: {"error": "UNAUTHORIZED"},
        403: {"error": "FORBIDDEN"},
        404: {"error": "NOT_FOUND"},
        422: {"error": "BUSINESS_RULE", "message": f"{first}: refused by a rule (injected)", "field": first},
        423: {"error": "LOCKED", "message": "the record is open in another session (injected)"},
        429: {"error": "RATE_LIMITED", "message": "too many requests (injected)"},
        500: {"error": "INTERNAL", "message": "injected"},
        503: {"error": "UNAVAILABLE", "message": "injected"},
    }
    if status == 409:
        return Result(about.pfa_id, 409, _conflict(about.version, about.version, about.fields))
    retry_after = _retry_after(fault, now) if status in (423, 429, 503) else None
    return Result(about.pfa_id, status, _fields(**said[status]), retry_after)


def _applied(record: Record, text: RecordText, with_record: bool) -> Result:
    fields = _fields(
        success=True,
        pfaId=record["pfaId"],
        newVersion=record["version"],
        updatedAt=record["updatedAt"],
        message="Updated",
    )
    return Result(record["pfaId"], 200, b'%b,"record":%b' % (fields, text.of(record)) if with_record else fields)


def _conflict(current: int | None, expected: int | None, fields: Sequence[str]) -> bytes:
    return _fields(
        success=False,
        error="VERSION_CONFLICT",
        message="the record has been changed since",
        currentVersion=current,
        expectedVersion=expected,
        conflictingFields=list(fields),
    )


def _item(result: Result) -> bytes:
    """`pfaId` and `status` first; a 200 says its `pfaId` in its own fields."""
    head = _fields(status=result.status) if result.status == 200 else _fields(pfaId=result.pfa_id, status=result.status)
    return b"{%b,%b}" % (head, result.fields)


def _fields(**values: Any) -> bytes:
    return to_json(values)[1:-1]


def _sentence(errors: dict[str, str]) -> str:
    return "; ".join(f"{name} {error}" for name, error in errors.items())


def _retry_after(fault: Fault, now: float) -> str | None:
    if fault.retry_after is None or not fault.as_date:
        return None if fault.retry_after is None else str(fault.retry_after)
    return formatdate(now + float(fault.retry_after), usegmt=True)


def _cursor_after(record: Record) -> str:
    return urlsafe_b64encode(f"{record['updatedAt']}|{record['pfaId']}".encode()).decode()
