"""One organization's events in this process: read once from the journal, encoded once, kept for those who come back.

Nobody is handed events: each socket has a cursor and asks for what follows it. So joining, resuming and living on are
the same thing, order and completeness need no care, and a slow socket costs a number, not a queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from realtime import frames
from realtime.limits import Limits
from realtime.reading import events_after, in_thread, last_seqs, restored_at_seq

if TYPE_CHECKING:
    from realtime.socket import Socket


class FellBehindError(Exception):
    """What this socket would have to be sent next is no longer kept."""


@dataclass(frozen=True)
class Batch:
    """A frame ready to send; `last` is the seq of its last event."""

    after: int
    last: int
    text: str


@dataclass(eq=False)
class Feed:
    organization_id: int
    slug: str
    limits: Limits
    seq: int = 0
    sockets: set[Socket] = field(default_factory=set)
    lonely_since: float = 0.0

    def __post_init__(self) -> None:
        self._kept: deque[str] = deque(maxlen=self.limits.kept_events)  # ends with the event numbered `seq`
        self._batch = Batch(0, 0, "[]")
        self._bell = asyncio.Event()
        self._paid_until = 0.0  # grows by `fold_seconds` with each broadcast, and never lags behind the clock
        self.opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        """Starts at the end of the journal, with what a client that returns may ask for."""
        seq = (await in_thread(last_seqs, [self.organization_id])).get(self.organization_id, 0)
        start = max(0, seq - self.limits.resumable_events)
        self._kept.extend(await in_thread(events_after, self.organization_id, self.slug, start, seq - start))
        self.seq = seq

    def ring(self, seq: int) -> None:
        """The journal is said to have reached `seq`."""
        if seq > self.seq:
            self._bell.set()

    async def follow(self) -> None:
        """One broadcast: waits for the bell, and as long as there were too many of late. Raises DatabaseError."""
        await asyncio.shield(self.opening)
        await self._bell.wait()
        ahead = (self.limits.broadcasts_at_once - 1) * self.limits.fold_seconds
        await asyncio.sleep(self._paid_until - ahead - _now())
        self._bell.clear()
        limit = self.limits.events_per_frame
        events = await in_thread(events_after, self.organization_id, self.slug, self.seq, limit)
        if len(events) == limit:
            self._bell.set()  # perhaps there is more
        if events:
            self._paid_until = max(self._paid_until, _now()) + self.limits.fold_seconds
            self._grow(events)

    def _grow(self, events: list[str]) -> None:
        self._kept.extend(events)
        self.seq += len(events)
        for socket in self.sockets:
            socket.news.set()

    def next_batch(self, after: int) -> Batch | None:
        """The events that follow `after`, at most a frame full; None when there are none yet.

        Raises FellBehindError. Sockets that are up to date all ask the same: the answer is encoded once.
        """
        last = min(self.seq, after + self.limits.events_per_frame)
        if last <= after:
            return None
        if (self._batch.after, self._batch.last) != (after, last):
            self._batch = Batch(after, last, frames.frame(self._slice(after, last)))
        return self._batch

    def _slice(self, after: int, last: int) -> list[str]:
        start = len(self._kept) - (self.seq - after)
        if start < 0:
            raise FellBehindError
        return list(islice(self._kept, start, start + last - after))

    async def can_resume(self, after: object) -> bool:
        """Whether a client that saw everything up to `after` can be sent the rest. After a restore numbers are given again,
        so for a day whoever names one of those begins anew. Raises DatabaseError."""
        if type(after) is not int or after < 0:
            return False
        last = self.seq
        if after > last:  # perhaps another process was faster than we are
            last = (await in_thread(last_seqs, [self.organization_id])).get(self.organization_id, 0)
        if not after <= last <= after + self.limits.resumable_events:
            return False
        restored = await in_thread(restored_at_seq, self.organization_id)
        return restored is None or after <= restored


def _now() -> float:
    return asyncio.get_running_loop().time()
