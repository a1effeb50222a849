"""The `gateway` dialect: versioned JSON over HTTP (PEMS_GATEWAY.md)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import requests

from pems_sync.client.answers import excerpt, outcome_of, page_of, parse_json, record_of, retry_after_seconds
from pems_sync.client.base import (
    BatchAbsent,
    BatchRefused,
    Fault,
    FaultKind,
    Missing,
    Outcome,
    Page,
    ReadFailed,
    ReadResult,
    Reply,
    Unknown,
    Write,
)
from pems_sync.client.secrets import Credentials
from pems_sync.client.transport import Answer, BoundedAdapter, NotSent, Sent, send
from pems_sync.fields import FIELDS

Shown = TypeVar("Shown")


class GatewayClient:
    """One per thread of work: `requests` sessions are not shared. Never resends, never follows redirects."""

    def __init__(self, *, base_url: str, tenant: str, credentials: Credentials, total_seconds: float) -> None:
        self.base_url = base_url.rstrip("/")
        self.total_seconds = total_seconds
        self._session = requests.Session()
        self._session.mount("http://", BoundedAdapter())
        self._session.mount("https://", BoundedAdapter())
        self._session.trust_env = False  # no proxy or netrc of the machine gets to see credentials
        self._session.headers.update({"tenant": tenant, "Accept": "application/json"})
        credentials.apply(self._session)

    def push(self, writes: Sequence[Write]) -> Reply:
        begun = monotonic()
        result = self._send_batch(writes) if len(writes) > 1 else self._send_single(writes[0])
        return _reply(writes, result, milliseconds=int((monotonic() - begun) * 1000))

    def push_bytes(self, writes: Sequence[Write]) -> int:
        return len(_encode(_batch_body(writes)))

    def read(self, *, organization_code: str, pfa_id: str) -> ReadResult:
        result = self._call("GET", f"/api/pems/pfa/{quote(pfa_id, safe='')}", organization_code)
        if isinstance(result, Answer) and result.status == 404 and _is_not_found(result):
            return Missing()
        return _read_of(result, lambda body: record_of(body, organization_code=organization_code, pfa_id=pfa_id))

    def page(
        self,
        *,
        organization_code: str,
        updated_since: datetime | None = None,
        cursor: str | None = None,
        limit: int = 1000,
    ) -> Page | ReadFailed:
        query = {"organizationCode": organization_code, "limit": str(limit)}
        if updated_since:
            query["updatedSince"] = updated_since.isoformat().replace("+00:00", "Z")
        if cursor:
            query["cursor"] = cursor
        result = self._call("GET", "/api/pems/pfa", organization_code, params=query)
        return _read_of(result, lambda body: page_of(body, organization_code=organization_code))

    def health(self, *, organization_code: str) -> ReadFailed | None:
        """None when PEMS answers that it is well."""
        read = _read_of(self._call("GET", "/api/pems/health", organization_code), lambda body: body)
        return read if isinstance(read, ReadFailed) else None

    def _send_single(self, write: Write) -> Sent:
        path = f"/api/pems/pfa/{quote(write.pfa_id, safe='')}"
        headers = {"Idempotency-Key": str(write.idempotency_key)}
        if write.operation == "DELETE":
            query = {
                "version": str(write.version),
                "modifiedBy": write.modified_by,
                "changeReason": write.change_reason,
            }
            return self._call("DELETE", path, write.organization_code, params=query, headers=headers)
        return self._call("PUT", path, write.organization_code, body=_single_body(write), headers=headers)

    def _send_batch(self, writes: Sequence[Write]) -> Sent:
        return self._call("POST", "/api/pems/pfa/batch", writes[0].organization_code, body=_batch_body(writes))

    def _call(
        self,
        method: str,
        path: str,
        organization_code: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Sent:
        request = requests.Request(
            method,
            self.base_url + path,
            params=dict(params or {}),
            data=None if body is None else _encode(body),
            headers={"organization": organization_code, "X-Request-Id": uuid4().hex, **(headers or {})}
            | ({} if body is None else {"Content-Type": "application/json"}),
        )
        return send(self._session, request, total_seconds=self.total_seconds)


def _encode(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _single_body(write: Write) -> dict[str, Any]:
    return {
        "pfaId": write.pfa_id,
        "organizationCode": write.organization_code,
        "changes": {name: FIELDS[name].to_pems(value) for name, value in write.changes.items()},
        "version": write.version,
        "modifiedBy": write.modified_by,
        "changeReason": write.change_reason,
    }


def _batch_body(writes: Sequence[Write]) -> dict[str, Any]:
    return {
        "items": [
            {"operation": write.operation, **_single_body(write), "idempotencyKey": str(write.idempotency_key)}
            for write in writes
        ]
    }


def _reply(writes: Sequence[Write], result: Sent, *, milliseconds: int) -> Reply:
    if isinstance(result, NotSent):
        return Reply(Fault(FaultKind.UNREACHABLE, result.message), None, milliseconds)
    if isinstance(result, Unknown):
        return Reply((result,) * len(writes), None, milliseconds)
    body = parse_json(result.content)
    trouble = _request_level(result, body, batch=len(writes) > 1)
    if trouble is not None:
        return Reply(trouble, result.status, milliseconds, (excerpt(body),))
    if len(writes) > 1:
        outcomes, excerpts = _batch_outcomes(writes, result, body), _item_excerpts(writes, body)
        return Reply(outcomes, result.status, milliseconds, excerpts)
    outcome = outcome_of(writes[0], result.status, body, result.retry_after)
    return Reply((outcome,), result.status, milliseconds, (excerpt(body),))


def _request_level(answer: Answer, body: Any, *, batch: bool) -> Fault | BatchAbsent | BatchRefused | None:
    """What the status says of the connection as a whole; None where it speaks of the edit."""
    status, wait = answer.status, retry_after_seconds(answer.retry_after)
    if status in (401, 403):
        return Fault(FaultKind.CREDENTIALS, f"PEMS refused the connection's credentials or rights ({status})")
    if status == 429:
        return Fault(FaultKind.THROTTLED, "PEMS asked for fewer requests (429)", wait)
    if status == 503:
        return Fault(FaultKind.UNAVAILABLE, "PEMS is not available (503)", wait)
    if status in (404, 405) and batch:
        return BatchAbsent()
    if status == 405 or 300 <= status < 400 or (status == 404 and not _is_not_found(answer)):
        return Fault(FaultKind.ADDRESS, f"the address does not answer as PEMS does ({status})")
    if status in (400, 413) and batch:
        return BatchRefused(f"PEMS refused the batch as a whole ({status})")
    return None


def _is_not_found(answer: Answer) -> bool:
    body = parse_json(answer.content)
    return isinstance(body, dict) and body.get("error") == "NOT_FOUND"


def _batch_outcomes(writes: Sequence[Write], answer: Answer, body: Any) -> tuple[Outcome, ...]:
    """One outcome per write, in order."""
    results = _results(body) if answer.status == 200 else None
    if results is None:
        return (Unknown(f"answer {answer.status} without readable results"),) * len(writes)
    return tuple(_item_outcome(write, results.get(write.pfa_id)) for write in writes)


def _results(body: Any) -> dict[str, dict[str, Any]] | None:
    """By record, which is in a batch once at most; two results for one record prove nothing. None: not a batch answer."""
    said = body.get("results") if isinstance(body, dict) else None
    if not isinstance(said, list):
        return None
    results = [result for result in said if isinstance(result, dict) and isinstance(result.get("pfaId"), str)]
    often = Counter(result["pfaId"] for result in results)
    return {result["pfaId"]: result for result in results if often[result["pfaId"]] == 1}


def _item_outcome(write: Write, result: dict[str, Any] | None) -> Outcome:
    if result is None or not isinstance(result.get("status"), int):
        return Unknown("the batch answer has no result for this edit")
    return outcome_of(write, result["status"], result, result.get("retryAfter"))


def _item_excerpts(writes: Sequence[Write], body: Any) -> tuple[Any, ...]:
    results = _results(body) or {}
    return tuple(excerpt(results.get(write.pfa_id)) for write in writes)


def _read_of(result: Sent, parse: Callable[[Any], Shown]) -> Shown | ReadFailed:
    if isinstance(result, NotSent):
        return ReadFailed(Fault(FaultKind.UNREACHABLE, result.message), result.message)
    if isinstance(result, Unknown):
        return ReadFailed(None, result.cause)
    fault = _request_level(result, None, batch=False)
    if isinstance(fault, Fault):
        return ReadFailed(fault, fault.message)
    body = parse_json(result.content)
    try:
        if result.status != 200:
            raise ValueError(f"status {result.status}")
        return parse(body)
    except (ValueError, TypeError, KeyError) as error:
        answered = result.status < 500 and (result.status != 200 or body is not None)
        return ReadFailed(None, f"the answer cannot be read: {error}", answered)
