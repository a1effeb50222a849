"""One socket per organization, through whatever web process lives, resumed after every break: are there holes? (I10)

The rule of a client (realtime/README.md): keep an event only if its seq is the last one kept plus one. A hole on a
connection that was in step is a gap at once; what never came is one in the end.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from itertools import count
from typing import Any

import websockets

from tests.torture.calling import Caller, GaveUp

RESUME_AGAIN_SECONDS = 3.0


class Listener(threading.Thread):
    """`kept`: (seq, type, modification id) from the first event after the connection on."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(name=f"listener of {caller.organization}", daemon=True)
        self._caller = caller
        self.organization = caller.organization
        self.kept: list[tuple[int, str, str | None]] = []
        self.gaps: list[str] = []
        self.resets = 0
        self.connections = 0
        self.last: int | None = None
        self.after = 0  # seq of the last event before the first connection
        self._over = threading.Event()
        self.connected = threading.Event()

    def stop(self) -> None:
        self._over.set()
        self.join(timeout=10)

    def run(self) -> None:
        for number in count():
            if self._over.is_set():
                return
            try:
                asyncio.run(self._listen(self._caller.urls[number % len(self._caller.urls)]))
            except (OSError, TimeoutError, websockets.WebSocketException, GaveUp):
                self._over.wait(0.5)

    async def _listen(self, url: str) -> None:
        """Raises whatever ends the connection."""
        body = {"organizationId": self.organization}
        ticket = self._caller.call("POST", "/api/realtime/ticket", json=body, patience=20.0).body["ticket"]
        address = f"{url.replace('http', 'ws', 1)}/api/ws/sync/{self.organization}?ticket={ticket}"
        async with websockets.connect(address, proxy=None, open_timeout=10, max_size=None) as socket:
            self.connections += 1
            in_step, asked_at = False, 0.0
            while not self._over.is_set():
                if self.last is not None and not in_step and time.monotonic() - asked_at > RESUME_AGAIN_SECONDS:
                    await socket.send(json.dumps({"type": "RESUME", "after": self.last}))
                    asked_at = time.monotonic()
                try:
                    frame = await asyncio.wait_for(socket.recv(), 0.3)
                except TimeoutError:
                    continue
                for event in json.loads(frame):
                    in_step = self._take(event, in_step)

    def _take(self, event: dict[str, Any], in_step: bool) -> bool:
        """Whether the connection is in step from here on: its next event has to be the next one."""
        if event["type"] == "CONNECTED":
            first = self.last is None
            if self.last is None:
                self.last = self.after = event["seq"]
            self.connected.set()
            return first or self.last == event["seq"]
        if event["type"] == "RESET":
            return self._refetch()
        seq = event["seq"]
        assert self.last is not None
        if seq <= self.last:
            return in_step
        if seq > self.last + 1:
            if in_step:
                self.gaps.append(f"{self.organization}: {seq} came after {self.last}, connection {self.connections}")
            return False
        self.last = seq
        self.kept.append((seq, event["type"], event["modificationId"]))
        return True

    def _refetch(self) -> bool:
        """More was missed than is told one by one: the client reads the state anew and goes on from what comes next."""
        self.resets += 1
        self.gaps.append(f"{self.organization}: RESET after {self.last}, though fewer than 1,000 events were missed")
        return False
