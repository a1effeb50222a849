"""One open socket: a reader that obeys RESUME, a writer that sends what follows its cursor."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from django.db import DatabaseError

from realtime import frames
from realtime.close_codes import CloseCode
from realtime.feed import Feed, FellBehindError
from realtime.limits import Limits
from realtime.tickets import Visitor

log = structlog.get_logger(__name__)
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Socket:
    def __init__(self, visitor: Visitor, feed: Feed, seq: int, send: Send) -> None:
        self.visitor = visitor
        self.news = asyncio.Event()
        self.sending_since: float | None = None
        self._feed = feed
        self._cursor = max(seq, feed.seq)  # what the client knows, or is about to be sent
        self._send = send
        self._reset_due = False
        self._resumed = asyncio.Event()
        self._ended: asyncio.Future[CloseCode | None] = asyncio.get_running_loop().create_future()

    async def live(self, receive: Receive) -> CloseCode | None:
        """Until somebody ends it. The code to close with; None when the client went away."""
        tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read(receive))]
        for task in tasks:
            task.add_done_callback(self._notice)
        try:
            return await self._ended
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def end(self, code: CloseCode | None) -> None:
        """The first reason counts."""
        if not self._ended.done():
            self._ended.set_result(code)

    def _notice(self, task: asyncio.Task[None]) -> None:
        """A task that failed ends the socket; OSError is how servers say that the client is gone."""
        failure = None if task.cancelled() else task.exception()
        if failure and not isinstance(failure, OSError):
            log.error("socket_failed", exc_info=failure)
        self.end(CloseCode.TRY_LATER if failure and not isinstance(failure, OSError) else None)

    async def _write(self) -> None:
        await self._deliver(frames.connected(self._feed.slug, self._cursor))
        await self._let_it_resume()
        while True:
            self.news.clear()
            if self._reset_due:
                self._reset_due = False
                await self._deliver(frames.reset(self._feed.slug))
            try:
                batch = self._feed.next_batch(self._cursor)
            except FellBehindError:
                return self.end(CloseCode.TOO_SLOW)
            if batch is None:
                await self.news.wait()
                continue
            self._cursor = batch.last  # before sending: a RESUME that comes meanwhile sets it anew
            await self._deliver(batch.text)

    async def _deliver(self, text: str) -> None:
        """The hub ends this socket when `sending_since` is too long ago: one clock for all instead of a timer each."""
        self.sending_since = asyncio.get_running_loop().time()
        await self._send({"type": "websocket.send", "text": text})
        self.sending_since = None

    async def _let_it_resume(self) -> None:
        """A client that returns says so at once; no later event may reach it before those it missed."""
        try:
            async with asyncio.timeout(self._feed.limits.grace_seconds):
                await self._resumed.wait()
        except TimeoutError:
            return

    async def _read(self, receive: Receive) -> None:
        tempo = Tempo(self._feed.limits)
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return self.end(None)
            if tempo.is_exceeded(asyncio.get_running_loop().time()):
                return self.end(CloseCode.TOO_MANY)
            text = message.get("text") or ""
            if len(text) <= self._feed.limits.message_characters:
                await self._obey(frames.resumed_after(text))

    async def _obey(self, after: object) -> None:
        if after is frames.NOT_A_RESUME:
            return
        try:
            known = await self._feed.can_resume(after)
        except DatabaseError:
            known = False
        if known and isinstance(after, int):
            self._cursor = after
        else:
            self._reset_due = True  # the cursor stays: what follows it is still to come
        self._resumed.set()
        self.news.set()


class Tempo:
    """Messages of the last second."""

    def __init__(self, limits: Limits) -> None:
        self._times: deque[float] = deque(maxlen=limits.messages_per_second)

    def is_exceeded(self, now: float) -> bool:
        full = len(self._times) == self._times.maxlen
        exceeded = full and now - self._times[0] < 1.0
        self._times.append(now)
        return exceeded
