"""The pace: one limit per connection, shared by the whole fleet and both directions (PROTOCOL.md, Pace; I11).

A caller reserves a slot, does what must be done before sending, then `enter`s the slot at its time: only then may
bytes leave. All by Redis TIME, one atomic script per step. Without Redis nothing is sent (S11: fails closed).

The pace is the limit times a share, the lesser of two (D11). `lower` halves it, and a tenth of the limit returns every 5 s;
`slow_start` begins at a tenth and doubles every 2 s. Never less than a tenth. The share follows from what is stored and the
time, whenever a slot is reserved; slots reserved before keep their time, so they follow a change within the horizon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

import redis

from pems_sync.client import pace_scripts as scripts

SPACING_MARGIN = 1.02
"""11 requests then span 1.02 s, so that jitter of arrival cannot put them into one second (FACTS.md)."""
HORIZON_SECONDS = 1.0
LEAD_SECONDS = 0.005
"""A slot is never nearer than this: what must be done before sending is done meanwhile. More to do asks for more."""
LATE_SECONDS = 0.010
INBOUND_SHARE = 0.2


@dataclass(frozen=True)
class Slot:
    """A reserved place in the pace. `at` is Redis time in microseconds."""

    at: int
    in_seconds: float


@dataclass(frozen=True)
class NoSlot:
    """Nothing within the horizon: come back in `seconds`."""

    seconds: float


class PaceUnavailableError(Exception):
    """Redis, which keeps the pace, cannot be reached: nothing is sent until it can."""


class Pace:
    """The pace of one connection. Times in seconds; `requests_per_second` is PEMS's limit."""

    def __init__(self, store: redis.Redis, *, connection: str, requests_per_second: float) -> None:
        self._key = f"pems-sync:pace:{connection}"
        self._spacing = int(1_000_000 * SPACING_MARGIN / requests_per_second)
        # A limit below one request per second needs a horizon that reaches its next slot.
        self._horizon = max(int(HORIZON_SECONDS * 1_000_000), self._spacing)
        self._limit = requests_per_second
        self._reserve: Callable[..., Any] = store.register_script(scripts.RESERVE)
        self._enter: Callable[..., Any] = store.register_script(scripts.ENTER)
        self._hold: Callable[..., Any] = store.register_script(scripts.HOLD)
        self._lower: Callable[..., Any] = store.register_script(scripts.LOWER)
        self._unavailable: Callable[..., Any] = store.register_script(scripts.UNAVAILABLE)
        self._slow_start: Callable[..., Any] = store.register_script(scripts.SLOW_START)
        self._share: Callable[..., Any] = store.register_script(scripts.SHARE)

    def reserve(
        self, *, given_up: Slot | None = None, inbound: bool = False, lead_seconds: float = LEAD_SECONDS
    ) -> Slot | NoSlot:
        """A slot for one request, not nearer than `lead_seconds`. `given_up` returns an unused one where nobody reserved
        after it; `inbound` takes at most a fifth of the pace. Raises PaceUnavailableError."""
        share = INBOUND_SHARE if inbound else 0
        arguments = [self._spacing, self._horizon, int(lead_seconds * 1e6), given_up.at if given_up else 0, share]
        at, wait = self._run(self._reserve, arguments)
        return Slot(int(at), int(wait) / 1e6) if int(at) else NoSlot(int(wait) / 1e6)

    def enter(self, slot: Slot) -> bool:
        """Wait for the slot's time. False when it was missed or the connection is held: reserve anew, send nothing."""
        left = int(self._run(self._enter, [slot.at, int(LATE_SECONDS * 1e6)]))
        if left > 0:
            sleep(left / 1e6)
            left = int(self._run(self._enter, [slot.at, int(LATE_SECONDS * 1e6)]))
        return left >= 0

    def enter_or_later(self, slot: Slot, *, patience_seconds: float) -> bool:
        """Enter this slot or, when it was missed, the next to be had. False when none could be entered within the patience
        from the slot's time on, or nobody may send for longer than the horizon."""
        deadline = monotonic() + slot.in_seconds + patience_seconds
        while not self.enter(slot):
            again = self.reserve(given_up=slot) if monotonic() < deadline else None
            if not isinstance(again, Slot):
                return False
            slot = again
        return True

    def hold(self, seconds: float) -> None:
        """Nobody sends for this long: PEMS's Retry-After, shared by the fleet."""
        self._run(self._hold, [int(seconds * 1e6)])

    def lower(self) -> bool:
        """PEMS said 429: half of the present pace from now on, at most once in 10 s. False: it was halved just before."""
        return bool(self._run(self._lower, []))

    def unavailable(self) -> bool:
        """PEMS answered a request with 503. The third within 10 s lowers the pace; True when this one did."""
        return bool(self._run(self._unavailable, []))

    def slow_start(self) -> None:
        """From now on 10 % of the limit, 20 % after 2 s, 40 % after 4 s, 80 % after 6 s, all of it after 8 s."""
        self._run(self._slow_start, [])

    def rate(self) -> float:
        """Requests per second allowed at this moment, were nothing held: the limit, or less while it is lowered."""
        return self._limit * float(self._run(self._share, []))

    def wait(self, *, inbound: bool = False, patience_seconds: float = 60.0) -> bool:
        """Reserve and enter a slot, however many tries it takes. False when none came within the patience."""
        given_up: Slot | None = None
        while patience_seconds > 0:
            slot = self.reserve(given_up=given_up, inbound=inbound)
            if isinstance(slot, NoSlot):
                nap = min(slot.seconds, 0.5)
                sleep(nap)
                patience_seconds -= max(nap, 0.01)
                given_up = None
                continue
            if self.enter(slot):
                return True
            given_up = slot
            patience_seconds -= 0.01
        return False

    def _run(self, script: Callable[..., Any], arguments: list[Any]) -> Any:
        try:
            return script(keys=[self._key], args=arguments)
        except redis.RedisError as error:
            raise PaceUnavailableError(f"the pace cannot be kept without Redis ({type(error).__name__})") from error
