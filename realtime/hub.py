"""One per process: the feeds of the organizations that somebody listens to here, and the clocks that drive them.

The bell comes through Redis and may be lost: the journal is also asked every second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakKeyDictionary

import structlog

from realtime.admission import Admission
from realtime.bells import Bells
from realtime.close_codes import CloseCode, RefusedError
from realtime.feed import Feed
from realtime.limits import Limits
from realtime.reading import in_thread, last_seqs
from realtime.socket import Send, Socket
from realtime.standing import fallen

log = structlog.get_logger(__name__)


class Hub:
    """Make it inside the running loop; its tasks end with the loop."""

    def __init__(self, limits: Limits) -> None:
        self.feeds: dict[int, Feed] = {}
        self._limits = limits
        self._sockets_of: Counter[int] = Counter()
        self._bells = Bells()
        self._feeds_changed = asyncio.Event()
        self._following: dict[Feed, asyncio.Task[None]] = {}
        steps = (self._hold_bells, self._hear, self._look, self._recheck, self._mind_the_slow)
        self._clocks = [asyncio.create_task(again_and_again(step)) for step in steps]

    @asynccontextmanager
    async def socket(self, admission: Admission, slug: str, send: Send) -> AsyncIterator[Socket]:
        """A socket that gets its organization's events inside the block. Raises RefusedError, DatabaseError."""
        visitor = admission.visitor
        with self._counted(visitor.user_id):
            feed = await self._feed(visitor.organization_id, slug)
            socket = Socket(visitor, feed, admission.seq, send)
            feed.sockets.add(socket)
            try:
                yield socket
            finally:
                feed.sockets.discard(socket)
                feed.lonely_since = _now()

    @contextmanager
    def _counted(self, user_id: int) -> Iterator[None]:
        if self._sockets_of[user_id] >= self._limits.sockets_per_user:
            raise RefusedError(CloseCode.TOO_MANY)
        self._sockets_of[user_id] += 1
        try:
            yield
        finally:
            self._sockets_of[user_id] -= 1
            self._sockets_of += Counter()  # forgets users with none

    async def _feed(self, organization_id: int, slug: str) -> Feed:
        """Its feed, open. The caller adds its socket before it awaits anything else."""
        feed = self.feeds.get(organization_id)
        if feed is None:
            feed = self.feeds[organization_id] = Feed(organization_id, slug, self._limits)
            self._following[feed] = asyncio.create_task(again_and_again(feed.follow))
            self._feeds_changed.set()
        feed.lonely_since = _now()
        try:
            await asyncio.shield(feed.opening)
        except Exception:
            self._drop(feed)
            raise
        return feed

    def _drop(self, feed: Feed) -> None:
        if self.feeds.get(feed.organization_id) is feed:
            del self.feeds[feed.organization_id]
            self._following.pop(feed).cancel()
            self._feeds_changed.set()

    async def _hold_bells(self) -> None:
        await self._feeds_changed.wait()
        self._feeds_changed.clear()
        try:
            await self._bells.hold(self.feeds)
        except Exception:
            self._feeds_changed.set()
            raise

    async def _hear(self) -> None:
        organization_id, seq = await self._bells.next()
        if feed := self.feeds.get(organization_id):
            feed.ring(seq)

    async def _look(self) -> None:
        """The journal itself, once a second: a bell that was lost only delays."""
        await asyncio.sleep(self._limits.look_seconds)
        self._drop_lonely()
        feeds = [feed for feed in self.feeds.values() if feed.opening.done()]
        before = {feed: feed.seq for feed in feeds}
        seqs = await in_thread(last_seqs, [feed.organization_id for feed in feeds]) if feeds else {}
        for feed in feeds:
            seq = seqs.get(feed.organization_id, 0)
            if seq < before[feed]:
                self._start_over(feed)
            feed.ring(seq)

    def _start_over(self, feed: Feed) -> None:
        """The journal went back (a restore): what clients know is no longer true."""
        for socket in list(feed.sockets):
            socket.end(CloseCode.RESTARTED)
        self._drop(feed)

    def _drop_lonely(self) -> None:
        lonely_since = _now() - self._limits.idle_seconds
        for feed in list(self.feeds.values()):
            if not feed.sockets and feed.lonely_since < lonely_since:
                self._drop(feed)

    async def _recheck(self) -> None:
        """Rights end while sockets are open (S6)."""
        await asyncio.sleep(self._limits.recheck_seconds)
        visitors = {socket.visitor for socket in self._sockets()}
        ended = await in_thread(fallen, visitors) if visitors else {}
        for socket in list(self._sockets()) if ended else ():
            if code := ended.get(socket.visitor):
                socket.end(code)

    async def _mind_the_slow(self) -> None:
        await asyncio.sleep(self._limits.send_seconds / 5)
        too_long_ago = _now() - self._limits.send_seconds
        for socket in list(self._sockets()):
            if socket.sending_since is not None and socket.sending_since < too_long_ago:
                socket.end(CloseCode.TOO_SLOW)

    def _sockets(self) -> Iterator[Socket]:
        for feed in self.feeds.values():
            yield from feed.sockets


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub_of_this_process() -> Hub:
    """Started with the first socket. A process has one event loop, except in tests."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub(Limits.of_this_process())
    return _hubs[loop]


async def again_and_again(step: Callable[[], Awaitable[None]]) -> None:
    """Whatever a step raises (PostgreSQL or Redis away), sockets stay open and it is tried again a second later."""
    failing = False
    while True:
        try:
            await step()
            failing = False
        except Exception as error:  # noqa: BLE001  (a hub that stopped silently would be worse than any of them)
            if not failing:
                log.warning("hub_step_failed", step=getattr(step, "__name__", ""), error=type(error).__name__)
            failing = True
            await asyncio.sleep(1)


def _now() -> float:
    return asyncio.get_running_loop().time()
