"""The `gateway` dialect: versioned JSON. Reads requests into calls, and carries calls out on the store."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from aiohttp import web

from . import gateway_answers as answers
from .clock import Clock, stamp_of
from .faultplan import Fault
from .faults import Faults
from .jsontext import from_json
from .store import Store
from .wire import Answer, html_answer
from .writes import Effects, Invalid, Missing, Write

PREFIX = "/api/pems/"
PAGE_LIMIT = 1000
_WRITE_KEYS = frozenset({"pfaId", "organizationCode", "changes", "version", "modifiedBy", "changeReason"})
_ITEM_KEYS = _WRITE_KEYS | {"operation", "idempotencyKey"}


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was understood."""

    operation: str
    organization: str
    pfa_ids: tuple[str, ...] = ()
    writes: tuple[Write | Invalid, ...] = ()
    since: str = ""
    after: tuple[str, str] | None = None
    limit: int = PAGE_LIMIT

    def first(self, count: int) -> "Call":
        """Only the first items of a batch."""
        return replace(self, writes=self.writes[:count])


class Gateway:
    """One dialect on the store. `read` and `execute` are separate, so that a fault can strike between them."""

    def __init__(self, store: Store, faults: Faults, clock: Clock) -> None:
        self._store = store
        self._faults = faults
        self._clock = clock
        self._text = answers.RecordText(store.records.values())

    # ------------------------------------------------------------------ reading

    def read(self, request: web.Request, body: bytes) -> Call | Answer:
        """The call, or the answer that ends the matter because it is none."""
        organization = request.headers["organization"]
        path = request.path.removeprefix(PREFIX)
        match request.method, path:
            case "GET", "health":
                return Call("HEALTH", organization)
            case "GET", "pfa":
                return _list_call(request.query, organization)
            case "POST", "pfa/batch":
                return _batch_call(body, organization, request.headers.get("X-Request-Id"))
            case "GET" | "PUT" | "DELETE", _ if path.startswith("pfa/") and len(path) > 4:
                return self._record_call(request, path[4:], body, organization)
            case _, "health" | "pfa" | "pfa/batch":
                return html_answer(405, "Method Not Allowed")
        return html_answer(404, "Not Found")

    def _record_call(self, request: web.Request, pfa_id: str, body: bytes, organization: str) -> Call | Answer:
        if request.method == "GET":
            return Call("GET", organization, (pfa_id,))
        sender = {
            "idempotency_key": request.headers.get("Idempotency-Key"),
            "request_id": request.headers.get("X-Request-Id"),
        }
        if request.method == "DELETE":
            asked: Any = _delete_query(request.query)
        elif isinstance(asked := _json_object(body), Answer):
            return asked
        operation = "DELETE" if request.method == "DELETE" else "UPDATE"
        write = _write(asked, _WRITE_KEYS, operation, pfa_id, organization, sender)
        if isinstance(write, Invalid):
            return answers.invalid(write)
        return Call(request.method, organization, (pfa_id,), (write,))

    # ------------------------------------------------------------------ carrying out

    def execute(self, call: Call) -> Answer:
        match call.operation:
            case "HEALTH":
                return answers.HEALTHY
            case "GET":
                record = self._store.find(call.pfa_ids[0], call.organization)
                return answers.NOT_FOUND if record is None else Answer(200, self._text.of(record))
            case "LIST":
                return self._list(call)
            case "BATCH":
                return answers.batch([self._one(call.operation, write) for write in call.writes])
        return answers.single(self._one(call.operation, call.writes[0]))

    def _list(self, call: Call) -> Answer:
        records, total, has_more = self._store.changed_since(call.organization, call.since, call.after, call.limit)
        return answers.page([self._text.of(r) for r in records], records, total, has_more, self._store.server_time())

    def _one(self, operation: str, write: Write | Invalid) -> answers.Result:
        fault = self._faults.for_item(operation, write.pfa_id, self._clock.now())
        kind = fault.kind if fault is not None else ""
        if fault is not None and kind.startswith("item_"):
            return self._injected_result(write, int(kind[5:]), fault)
        if isinstance(write, Invalid):
            return answers.result(write, self._text)
        extra = fault.n if fault is not None and kind == "version_jump" else 0
        effects = Effects(extra_versions=extra, adjusts=kind == "adjust")
        outcome = self._store.write(write, effects, honour_key=self._faults.honours_keys())
        result = answers.result(outcome, self._text, with_record=kind != "no_record")
        return replace(result, is_left_out=kind == "batch_missing_result")

    # ------------------------------------------------------------------ saying what did not happen

    def injected(self, call: Call, status: int, fault: Fault) -> Answer:
        """A refusal of the whole request that has no ground in the records."""
        now = self._clock.now()
        write = call.writes[0] if call.writes else Missing(call.pfa_ids[0] if call.pfa_ids else "")
        return answers.injected(status, self._about(write), fault, now)

    def _injected_result(self, write: Write | Invalid, status: int, fault: Fault) -> answers.Result:
        return answers.injected_result(status, self._about(write), fault, self._clock.now())

    def _about(self, write: Write | Invalid | Missing) -> answers.About:
        record = self._store.records.get(write.pfa_id)
        version = record["version"] if record else None
        fields = list(write.changes) if isinstance(write, Write) else []
        return answers.About(write.pfa_id, version, fields)


def _list_call(query: Mapping[str, str], organization: str) -> Call | Answer:
    errors: dict[str, str] = {}
    if query.get("organizationCode", organization) != organization:
        errors["organizationCode"] = "is not the organization of the header"
    since = _parsed(query, "updatedSince", stamp_of, "", errors)
    after = _parsed(query, "cursor", answers.position_of, None, errors)
    limit = _parsed(query, "limit", int, PAGE_LIMIT, errors)
    if limit < 1:
        errors["limit"] = "must be at least 1"
    if errors:
        return answers.invalid(Invalid("", errors))
    return Call("LIST", organization, since=since, after=after, limit=min(limit, PAGE_LIMIT))


def _parsed(query: Mapping[str, str], name: str, parse: Any, default: Any, errors: dict[str, str]) -> Any:
    try:
        return parse(query[name]) if name in query else default
    except ValueError:
        errors[name] = "cannot be understood"
        return default


def _delete_query(query: Mapping[str, str]) -> dict[str, Any]:
    version = query.get("version", "")
    asked: dict[str, Any] = {name: query[name] for name in ("modifiedBy", "changeReason") if name in query}
    return {**asked, "version": int(version) if version.isdecimal() and len(version) < 10 else None}


def _batch_call(body: bytes, organization: str, request_id: str | None) -> Call | Answer:
    asked = _json_object(body)
    if isinstance(asked, Answer):
        return asked
    items = asked.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= 100:
        return answers.bad_request("items must be a list of 1 to 100 operations")
    if not all(isinstance(item, dict) and isinstance(item.get("pfaId"), str) for item in items):
        return answers.bad_request("every item must be an object with a pfaId")
    if any(item.get("organizationCode") != organization for item in items):
        return answers.bad_request("every item must be of the organization in the header")
    writes = tuple(_item(item, organization, request_id) for item in items)
    return Call("BATCH", organization, tuple(write.pfa_id for write in writes), writes)


def _item(item: dict[str, Any], organization: str, request_id: str | None) -> Write | Invalid:
    key = item.get("idempotencyKey")
    if key is not None and not isinstance(key, str):
        return Invalid(item["pfaId"], {"idempotencyKey": "must be text"})
    sender = {"idempotency_key": key, "request_id": request_id}
    return _write(item, _ITEM_KEYS, item.get("operation"), item["pfaId"], organization, sender)


def _write(
    asked: Mapping[str, Any],
    known: frozenset[str],
    operation: Any,
    pfa_id: str,
    organization: str,
    sender: dict[str, str | None],
) -> Write | Invalid:
    """The write that was asked for; `Invalid` names what is missing or of the wrong type around the changes."""
    errors = dict.fromkeys(asked.keys() - known, "is not known")
    changes = asked.get("changes")
    if operation == "DELETE" and changes in (None, {}):
        changes = {"isDiscontinued": True}
    checks = {
        "operation": operation in ("UPDATE", "DELETE"),
        "pfaId": asked.get("pfaId", pfa_id) == pfa_id,
        "organizationCode": asked.get("organizationCode", organization) == organization,
        "version": type(asked.get("version")) is int,
        "modifiedBy": isinstance(asked.get("modifiedBy"), str) and asked["modifiedBy"] != "",
        "changeReason": isinstance(asked.get("changeReason"), str | None),
        "changes": bool(changes) and isinstance(changes, dict),
    }
    errors.update({name: "is missing or wrong" for name, is_right in checks.items() if not is_right})
    if operation == "DELETE" and changes != {"isDiscontinued": True}:
        errors["changes"] = "a DELETE changes nothing but isDiscontinued"
    if errors:
        return Invalid(pfa_id, errors)
    build = partial(Write, operation, pfa_id, organization, changes or {}, asked["version"], asked["modifiedBy"])
    return build(asked.get("changeReason"), **sender)


def _json_object(body: bytes) -> dict[str, Any] | Answer:
    try:
        asked = from_json(body)
    except ValueError as error:
        return answers.bad_request(f"the body is not JSON: {error}")
    return asked if isinstance(asked, dict) else answers.bad_request("the body must be a JSON object")
