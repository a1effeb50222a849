"""`/sandbox/`: what a test, the demo or a developer may ask of the sandbox itself. Answers this machine only."""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from .faultplan import changed_plan
from .fields import clean
from .jsontext import from_json, to_json
from .sandbox import Sandbox
from .webhook import subscription_of

Reply = dict[str, Any] | bytes
_AUDIT_PAGE = 1000


class Refused(Exception):
    """The request of a control makes no sense."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Controls:
    """Controls need no credentials and never count towards the limit."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def add_to(self, router: web.UrlDispatcher) -> None:
        sandbox = self._sandbox
        calls: dict[tuple[str, str], Callable[[web.Request, Any], Reply]] = {
            ("GET", "stats"): lambda request, body: sandbox.stats(),
            ("POST", "stats/reset"): lambda request, body: self._forget_traffic(),
            ("GET", "audit"): lambda request, body: self._audit(request),
            ("GET", "faults"): lambda request, body: self._faults(),
            ("POST", "faults"): lambda request, body: self._follow(body),
            ("DELETE", "faults"): lambda request, body: self._clear_faults(),
            ("POST", "edit"): lambda request, body: self._edit(body),
            ("POST", "remove"): lambda request, body: self._remove(body),
            ("POST", "reset"): lambda request, body: self._reset(body),
            ("POST", "settings"): lambda request, body: self._settings(body),
            ("POST", "webhook"): lambda request, body: self._subscribe(body),
            ("DELETE", "webhook"): lambda request, body: self._unsubscribe(),
        }
        for (method, name), call in calls.items():
            router.add_route(method, f"/sandbox/{name}", _answering(call))

    def _forget_traffic(self) -> Reply:
        self._sandbox.forget_traffic()
        return self._sandbox.stats()

    def _audit(self, request: web.Request) -> Reply:
        query = request.query
        after, limit = query.get("after", "0"), query.get("limit", str(_AUDIT_PAGE))
        if not (after.isdecimal() and limit.isdecimal() and 1 <= int(limit) <= 10 * _AUDIT_PAGE):
            raise Refused(400, "after and limit must be whole numbers, limit from 1 to 10000")
        return self._sandbox.store.audit.page(query.get("pfaId"), int(after), int(limit))

    def _faults(self) -> Reply:
        return self._sandbox.faults.report(self._sandbox.clock.now())

    def _follow(self, body: Any) -> Reply:
        faults = self._sandbox.faults
        faults.follow(changed_plan(faults.plan, body, self._sandbox.clock.now()))
        return self._faults()

    def _clear_faults(self) -> Reply:
        self._sandbox.faults.clear()
        return self._faults()

    def _edit(self, body: Any) -> Reply:
        if "edits" not in body:
            return self._edited(body)
        edits = body["edits"]
        if not isinstance(edits, list) or not all(isinstance(edit, dict) for edit in edits):
            raise Refused(400, "edits must be a list of objects")
        return {"results": [self._edited_or_not(edit) for edit in edits]}

    def _edited_or_not(self, edit: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._edited(edit)
        except Refused as refused:
            return {"pfaId": edit.get("pfaId"), "error": str(refused)}

    def _edited(self, edit: dict[str, Any]) -> dict[str, Any]:
        pfa_id, wanted, bump = self._known(edit.get("pfaId")), edit.get("changes"), edit.get("bump", 1)
        modified_by = edit.get("modifiedBy", "pems.user")
        values, errors = clean(wanted) if isinstance(wanted, dict) else ({}, {"changes": "must be an object"})
        if errors:
            raise Refused(400, "; ".join(f"{name} {error}" for name, error in errors.items()))
        if type(bump) is not int or bump < 0 or not isinstance(modified_by, str):
            raise Refused(400, "bump must be a whole number from 0, modifiedBy text")
        record = self._sandbox.store.edit(pfa_id, values, modified_by, bump)
        return {"pfaId": pfa_id, "version": record["version"], "updatedAt": record["updatedAt"], "record": record}

    def _remove(self, body: Any) -> Reply:
        named = body["pfaIds"] if isinstance(body.get("pfaIds"), list) else [body.get("pfaId")]
        pfa_ids = list(dict.fromkeys(self._known(pfa_id) for pfa_id in named))
        for pfa_id in pfa_ids:
            self._sandbox.store.remove(pfa_id)
        return {"removed": pfa_ids}

    def _known(self, pfa_id: Any) -> str:
        if not isinstance(pfa_id, str) or pfa_id not in self._sandbox.store.records:
            raise Refused(404, f"there is no record {pfa_id}")
        return pfa_id

    def _reset(self, body: Any) -> Reply:
        records, seed = body.get("records", self._sandbox.records), body.get("seed", self._sandbox.seed)
        if type(records) is not int or type(seed) is not int or not 0 <= records <= 1_000_000:
            raise Refused(400, "records must be from 0 to 1000000, seed a whole number")
        self._sandbox.reset(records, seed)
        return {"records": records, "seed": seed}

    def _settings(self, body: Any) -> Reply:
        limit = body.get("rateLimit", self._sandbox.traffic.limit)
        latency = body.get("latencyMs", self._sandbox.pipeline.latency_seconds * 1000)
        if type(limit) is not int or limit < 0 or not isinstance(latency, int | float) or latency < 0:
            raise Refused(400, "rateLimit and latencyMs must be numbers from 0")
        self._sandbox.traffic.limit = limit
        self._sandbox.pipeline.latency_seconds = latency / 1000
        return {"rateLimit": limit, "latencyMs": latency}

    def _subscribe(self, body: Any) -> Reply:
        self._sandbox.subscribe(subscription_of(body))
        return self._sandbox.notifier.report()

    def _unsubscribe(self) -> Reply:
        self._sandbox.unsubscribe()
        return self._sandbox.notifier.report()


def _answering(call: Callable[[web.Request, Any], Reply]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A control as a web handler: local callers only, a JSON object in, JSON out."""

    async def handler(request: web.Request) -> web.Response:
        if not _is_local(request.remote):
            return _reply(403, {"error": "FORBIDDEN", "message": "controls answer this machine only"})
        try:
            return _reply(200, call(request, _object(await request.read())))
        except Refused as refused:
            return _reply(refused.status, {"error": "REFUSED", "message": str(refused)})
        except ValueError as error:
            return _reply(400, {"error": "INVALID_REQUEST", "message": str(error)})

    return handler


def _object(body: bytes) -> dict[str, Any]:
    asked = from_json(body) if body else {}
    if not isinstance(asked, dict):
        raise Refused(400, "the body must be a JSON object")
    return asked


def _is_local(address: str | None) -> bool:
    return address is not None and ipaddress.ip_address(address.removeprefix("::ffff:")).is_loopback


def _reply(status: int, reply: Reply) -> web.Response:
    body = reply if isinstance(reply, bytes) else to_json(reply)
    return web.Response(status=status, body=body, content_type="application/json")
