"""Says through Redis "organization X reached seq N", from whatever process wrote the journal.

Costs the caller a dictionary entry and a wake-up: a thread with an event loop of its own does the sending. Only the
highest seq of an organization counts, so a burst is one message, and what cannot be sent is dropped: hubs look by
themselves every second.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from functools import cache
from typing import Any

import structlog
from channels.layers import get_channel_layer

log = structlog.get_logger(__name__)
SEND_SECONDS = 1.0
FLUSH_SECONDS = 1.0


def group_of(organization_id: int) -> str:
    return f"sync.{organization_id}"


def announce_growth(organization_id: int, seq: int, **_: Any) -> None:
    """Receiver of `journal_grew`. Returns at once."""
    _announcer(os.getpid()).announce(organization_id, seq)


@cache
def _announcer(_pid: int) -> Announcer:
    """One per process: a forked child inherits the object, but neither its thread nor a usable connection."""
    return Announcer()


class Announcer:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, int] = {}
        self._idle = threading.Event()
        self._idle.set()
        self._failing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._thread.start()
        self._pid = os.getpid()
        atexit.register(self.finish)

    def announce(self, organization_id: int, seq: int) -> None:
        with self._lock:
            self._waiting[organization_id] = max(seq, self._waiting.get(organization_id, 0))
            if not self._idle.is_set():
                return  # whoever sends now comes back for this
            self._idle.clear()
        asyncio.run_coroutine_threadsafe(self._send_waiting(), self._loop)

    def finish(self, seconds: float = FLUSH_SECONDS) -> None:
        """A short-lived command's last word leaves before the process ends; Redis away holds it up for `seconds`."""
        if os.getpid() != self._pid or not self._thread.is_alive():
            return
        self._idle.wait(seconds)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(seconds / 10)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _send_waiting(self) -> None:
        while seqs := self._taken():
            try:
                await self._send(seqs)
                self._failing = False
            except Exception as error:  # noqa: BLE001  (whatever it is, the next announcement must be tried)
                self._complain(error)

    def _taken(self) -> dict[int, int]:
        with self._lock:
            taken, self._waiting = self._waiting, {}
            if not taken:
                self._idle.set()
            return taken

    async def _send(self, seqs: dict[int, int]) -> None:
        layer: Any = get_channel_layer()
        async with asyncio.timeout(SEND_SECONDS):
            for organization_id, seq in seqs.items():
                message = {"type": "journal.grew", "organization": organization_id, "seq": seq}
                await layer.group_send(group_of(organization_id), message)

    def _complain(self, error: Exception) -> None:
        """Once until it works again."""
        if not self._failing:
            log.warning("announcement_lost", error=type(error).__name__)
        self._failing = True
