"""A planner as an outside client: the REST API and the socket, nothing else."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests
import websockets

PAGE = 200
Events = Callable[[dict[str, Any]], None]


class DemoError(Exception):
    """The interface did not do what API.md says."""


@dataclass
class Planner:
    """One signed-in user of one organization."""

    base_url: str
    organization: str
    username: str
    password: str
    http: requests.Session = field(default_factory=requests.Session)

    def sign_in(self) -> None:
        answer = self.call("POST", "/api/auth/token", json={"username": self.username, "password": self.password})
        self.http.headers["Authorization"] = f"Bearer {answer['token']}"

    def call(self, method: str, path: str, **request: Any) -> Any:
        """One request, repeated when we are asked to be slower. Raises DemoError."""
        for _ in range(60):
            reply = self.http.request(method, self.base_url + path, timeout=60, **request)
            if reply.status_code != 429:
                break
            time.sleep(float(reply.headers.get("Retry-After", "1")))
        if not reply.ok:
            raise DemoError(f"{method} {path}: {reply.status_code} {reply.text[:500]}")
        return reply.json() if reply.content else None

    def pages(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            page = self.call(
                "GET", path, params={**query, "limit": str(PAGE), **({"cursor": cursor} if cursor else {})}
            )
            yield from page["items"]
            cursor = page["nextCursor"]
            if cursor is None:
                return

    def records(self) -> Iterator[dict[str, Any]]:
        return self.pages(f"/api/pfa/{self.organization}/records")

    def modifications(self) -> Iterator[dict[str, Any]]:
        return self.pages("/api/pems/modifications", organizationId=self.organization)

    def save_drafts(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        saved: list[dict[str, Any]] = []
        for start in range(0, len(items), 1000):
            body = {"items": items[start : start + 1000]}
            saved += self.call("PUT", f"/api/pfa/{self.organization}/drafts", json=body)["items"]
        return saved

    def write_sync(self) -> dict[str, Any]:
        body = {"organizationId": self.organization, "reason": "demo"}
        answer: dict[str, Any] = self.call("POST", "/api/pems/write-sync", json=body)
        return answer

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("GET", "/api/pems/sync-status", params={"organizationId": self.organization})
        return answer

    def listen(self, heard: Events) -> Listener:
        return Listener(self, heard)


class Listener(threading.Thread):
    """The organization's socket, resumed where it broke off, until `stop`."""

    def __init__(self, planner: Planner, heard: Events) -> None:
        super().__init__(daemon=True)
        self._planner, self._heard = planner, heard
        self._last: int | None = None
        self._ending = threading.Event()
        self.connected = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ending.is_set():
            try:
                asyncio.run(self._listen())
            except (OSError, websockets.WebSocketException, DemoError, requests.RequestException):
                time.sleep(0.5)

    async def _listen(self) -> None:
        ticket = self._planner.call("POST", "/api/realtime/ticket", json={"organizationId": self._planner.organization})
        url = self._planner.base_url.replace("http", "ws", 1)
        address = f"{url}/api/ws/sync/{self._planner.organization}?ticket={ticket['ticket']}"
        async with websockets.connect(address, proxy=None) as socket:
            if self._last is not None:
                await socket.send(json.dumps({"type": "RESUME", "after": self._last}))
            while not self._ending.is_set():
                try:
                    frame = await asyncio.wait_for(socket.recv(), 0.5)
                except TimeoutError:
                    continue
                self._take(json.loads(frame))

    def _take(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["type"] == "CONNECTED":
                self._last = event["seq"] if self._last is None else self._last
                self.connected.set()
            elif event.get("seq") is not None and (self._last is None or event["seq"] > self._last):
                self._last = event["seq"]
                self._heard(event)

    def stop(self) -> None:
        self._ending.set()
        self.join(timeout=5)
