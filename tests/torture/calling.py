"""One person at the API, through any web process, who repeats what was not answered, safely, and forgets nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import uuid4

import requests

PATIENCE_SECONDS = 60.0
HANG_SECONDS = 30.0
AGAIN = (429, 500, 502, 503, 504)
PEMS_AWAY = "PEMS_UNAVAILABLE"
"""What a rollback answers that had to read PEMS: clean and final, whatever PEMS is suffering from."""


@dataclass(frozen=True)
class BadAnswer:
    """A 5xx, an answer without our shape of errors, or none within HANG_SECONDS. `ended`: monotonic time."""

    ended: float
    what: str
    is_hang: bool = False
    is_malformed: bool = False


@dataclass
class Answers:
    """What all callers were answered."""

    bad: list[BadAnswer] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, status: str, bad: BadAnswer | None = None) -> None:
        with self.lock:
            self.statuses[status] += 1
            if bad is not None:
                self.bad.append(bad)


class GaveUp(Exception):
    """No answer that can be used within PATIENCE_SECONDS."""


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any
    is_repeat: bool
    """An earlier request of the same content went unanswered, and may have been carried out."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class Caller:
    """One signed-in user of one organization."""

    def __init__(self, urls: Sequence[str], organization: str, username: str, password: str, answers: Answers) -> None:
        self.urls, self.organization, self.username = list(urls), organization, username
        self._password, self._answers = password, answers
        self._random = Random(username)
        self._http = requests.Session()
        self._http.trust_env = False

    def sign_in(self) -> None:
        body = {"username": self.username, "password": self._password}
        self._http.headers["Authorization"] = f"Bearer {self.call('POST', '/api/auth/token', json=body).body['token']}"

    def twin(self) -> Caller:
        """The same person with a connection of their own, signed in alike."""
        other = Caller(self.urls, self.organization, self.username, self._password, self._answers)
        other._http.headers.update(self._http.headers)
        return other

    def call(self, method: str, path: str, *, patience: float = PATIENCE_SECONDS, **request: Any) -> Reply:
        """The first answer that is neither 429 nor 5xx, after as many tries as it takes. Raises GaveUp."""
        deadline, is_repeat, last = time.monotonic() + patience, False, "never tried"
        while time.monotonic() < deadline:
            reply = self._try(method, path, request)
            if isinstance(reply, requests.Response) and (reply.status_code not in AGAIN or _is_pems_away(reply)):
                return Reply(reply.status_code, _json(reply), is_repeat)
            is_repeat, last = True, str(reply)
            time.sleep(0.3 + 0.4 * self._random.random())
        raise GaveUp(f"{self.username}: {method} {path}: {last}")

    def commit(self, modification_ids: Sequence[str], *, priority: int = 0) -> Reply:
        """write-sync under one Idempotency-Key, however often it has to be said."""
        body = {"organizationId": self.organization, "modificationIds": list(modification_ids), "priority": priority}
        return self.call("POST", "/api/pems/write-sync", json=body, headers={"Idempotency-Key": str(uuid4())})

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The first 200 of a list."""
        reply = self.call("GET", path, params={"organizationId": self.organization, "limit": "200", **query})
        return list(reply.body["items"]) if reply.ok else []

    def _try(self, method: str, path: str, request: dict[str, Any]) -> requests.Response | str:
        url, began = self._random.choice(self.urls), time.monotonic()
        try:
            reply = self._http.request(method, url + path, timeout=HANG_SECONDS, **request)
        except requests.RequestException as error:
            hung = isinstance(error, requests.ReadTimeout)
            bad = BadAnswer(time.monotonic(), f"{method} {path}: no answer within {HANG_SECONDS:g} s", is_hang=True)
            self._answers.note("no connection" if not hung else "hang", bad if hung else None)
            return type(error).__name__
        self._answers.note(str(reply.status_code), _bad(method, path, reply, time.monotonic() - began))
        return reply


def _bad(method: str, path: str, reply: requests.Response, seconds: float) -> BadAnswer | None:
    shape = _json(reply)
    malformed = reply.status_code >= 400 and not (isinstance(shape, dict) and {"error", "message"} <= set(shape))
    if not malformed and (reply.status_code < 500 or _is_pems_away(reply)):
        return None
    what = f"{reply.status_code} {method} {path} after {seconds:.1f} s: {reply.text[:300]}"
    return BadAnswer(time.monotonic(), what, is_malformed=malformed)


def _is_pems_away(reply: requests.Response) -> bool:
    shape = _json(reply)
    return reply.status_code == 503 and isinstance(shape, dict) and shape.get("error") == PEMS_AWAY


def _json(reply: requests.Response) -> Any:
    try:
        return reply.json()
    except ValueError:
        return None
