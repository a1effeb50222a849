"""The way of a request through PEMS: arrive, pass the door, be understood, be carried out, be answered (or not)."""

import asyncio
import base64
import binascii
import hmac
import os
from dataclasses import dataclass

from aiohttp import web

from . import gateway_answers as answers
from .clock import Clock
from .faultplan import STATUS_KINDS, Fault
from .faults import Faults
from .gateway import Call, Gateway
from .jsontext import to_json
from .statelog import StateLog
from .traffic import Traffic
from .wire import Answer, cut, half, html_answer, json_answer, unreadable, whole

BODY_LIMIT = 1024 * 1024
_UNAUTHORIZED = json_answer(401, {"error": "UNAUTHORIZED"})
_TOO_LARGE = json_answer(413, {"error": "TOO_LARGE", "message": "the body is larger than 1 MB"})
_OUTAGE = json_answer(503, {"error": "UNAVAILABLE", "message": "outage"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is accepted. With none of them set, anything that is not empty."""

    user: str = ""
    password: str = ""
    api_key: str = ""

    @classmethod
    def from_environment(cls) -> "Credentials":
        names = ("PEMS_USER", "PEMS_PASSWORD", "PEMS_API_KEY")
        return cls(*(os.environ.get(name, "") for name in names))

    def admit(self, basic: str, api_key: str) -> bool:
        """Whether an `Authorization` or an `X-API-Key` header opens the door."""
        pair = _basic_pair(basic)
        if not (self.user or self.password or self.api_key):
            return bool(api_key) or bool(pair.strip(b":"))
        if api_key and self.api_key:
            return hmac.compare_digest(api_key.encode(errors="surrogateescape"), self.api_key.encode())
        wanted = f"{self.user}:{self.password}".encode()
        return bool(self.user or self.password) and hmac.compare_digest(pair, wanted)


class Pipeline:
    """Serves one dialect. `latency_seconds` is what PEMS takes to think, before it does anything."""

    def __init__(
        self, dialect: Gateway, traffic: Traffic, faults: Faults, credentials: Credentials, clock: Clock, log: StateLog
    ) -> None:
        self._dialect = dialect
        self._traffic = traffic
        self._faults = faults
        self._credentials = credentials
        self._clock = clock
        self._log = log
        self._late: set[asyncio.TimerHandle] = set()
        self.latency_seconds = 0.0

    def retire(self) -> None:
        """What was still to be applied late never will be."""
        for timer in self._late:
            timer.cancel()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        now = self._clock.now()
        is_within_limit = self._traffic.arrive(now)
        if self._log.is_kept:
            self._log.append(b'{"arrived":%.6f}' % now)
        if (outage := self._faults.outage(request.method, now)) is not None:
            return self._answered(request, _OUTAGE) if outage.mode == "503" else self._cut(request)
        if (refusal := self._refused_at_the_door(request, is_within_limit)) is not None:
            return self._answered(request, refusal)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._answered(request, _TOO_LARGE)
        except ConnectionError:  # the client died in the middle of its request
            return self._cut(request)
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        call = self._dialect.read(request, body)
        if isinstance(call, Answer):
            return self._answered(request, call)
        fault = self._faults.for_request(call.operation, call.pfa_ids, self._clock.now())
        if fault is None:
            return self._answered(request, self._dialect.execute(call))
        return await self._served_badly(request, call, fault)

    def _refused_at_the_door(self, request: web.Request, is_within_limit: bool) -> Answer | None:
        if not is_within_limit:
            return answers.rate_limited(self._traffic.limit)
        headers = request.headers
        if not self._credentials.admit(headers.get("Authorization", ""), headers.get("X-API-Key", "")):
            return _UNAUTHORIZED
        missing = [name for name in ("tenant", "organization") if not headers.get(name)]
        if missing:
            return answers.bad_request(f"the header {' and '.join(missing)} is missing")
        return _TOO_LARGE if (request.content_length or 0) > BODY_LIMIT else None

    async def _served_badly(self, request: web.Request, call: Call, fault: Fault) -> web.StreamResponse:
        if fault.kind in STATUS_KINDS:
            return self._refused(request, call, fault)
        match fault.kind:
            case "batch_absent":
                return self._answered(request, html_answer(404, "Not Found"))
            case "reset_before":
                return self._cut(request)
            case "late_apply":
                self._late.add(asyncio.get_running_loop().call_later(fault.seconds, self._dialect.execute, call))
                return self._cut(request)
            case "batch_partial":
                self._dialect.execute(call.first(fault.n))
                return self._cut(request)
        return await self._applied_and_served_badly(request, call, fault)

    async def _applied_and_served_badly(self, request: web.Request, call: Call, fault: Fault) -> web.StreamResponse:
        answer = self._dialect.execute(call)
        match fault.kind:
            case "slow":
                await asyncio.sleep(fault.seconds)
                return self._answered(request, answer)
            case "truncated":
                self._note(request, "truncated")
                return await half(request, answer)
            case "garbage":
                self._note(request, "garbage")
                return unreadable()
        return self._cut(request)

    def _refused(self, request: web.Request, call: Call, fault: Fault) -> web.Response:
        """An injected status; one that leaves the outcome open may hide a write that was applied."""
        if fault.kind == "status_404_html":
            return self._answered(request, html_answer(404, "Not Found"))
        status = int(fault.kind.removeprefix("status_"))
        if status in (500, 502, 504) and fault.applied:
            self._dialect.execute(call)
        return self._answered(request, self._dialect.injected(call, status, fault))

    # ------------------------------------------------------------------ every way out is counted

    def _answered(self, request: web.Request, answer: Answer) -> web.Response:
        self._note(request, str(answer.status))
        return whole(answer)

    def _cut(self, request: web.Request) -> web.Response:
        self._note(request, "cut")
        return cut(request)

    def _note(self, request: web.Request, result: str) -> None:
        self._traffic.answered(request.method, result)
        if self._log.is_kept:
            self._log.append(to_json({"answered": [request.method, result]}))


def _basic_pair(header: str) -> bytes:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
