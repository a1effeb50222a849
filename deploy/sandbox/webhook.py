"""Tells subscribers which records changed: signed, at least once, in no certain order."""

import asyncio
import hashlib
import hmac
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from random import Random
from typing import Any
from uuid import uuid4

import aiohttp

from .clock import Clock
from .jsontext import to_json

_GATHER_SECONDS = 0.05
"""Changes of this time go out in one event."""
_PAUSES_SECONDS = (0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30)
_IDS_PER_EVENT = 100


@dataclass(frozen=True, slots=True)
class Subscription:
    url: str
    secret: str
    repeat: float = 0.0
    """Probability that an event is delivered a second time."""


def subscription_of(wanted: Any) -> Subscription:
    """Raises ValueError with a sentence for the sender."""
    if not isinstance(wanted, dict) or set(wanted) - {"url", "secret", "repeat"}:
        raise ValueError('a webhook is {"url": …, "secret": …, "repeat": probability}')
    url, secret, repeat = wanted.get("url"), wanted.get("secret"), wanted.get("repeat", 0.0)
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ValueError("url must be an http or https address")
    if not isinstance(secret, str) or not secret:
        raise ValueError("secret must be text")
    if isinstance(repeat, bool) or not isinstance(repeat, int | float) or not 0 <= repeat <= 1:
        raise ValueError("repeat must be between 0 and 1")
    return Subscription(url, secret, float(repeat))


class Notifier:
    """Undelivered events die with the process: a subscriber has to poll as well."""

    def __init__(self, clock: Clock) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self._clock = clock
        self._changed: defaultdict[str, set[str]] = defaultdict(set)
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter()
        self._random = Random(1)
        self._http: aiohttp.ClientSession | None = None

    def changed(self, organization: str, pfa_id: str) -> None:
        """Notes a change; the event goes out a moment later. Costs nothing without subscribers."""
        if not self.subscriptions:
            return
        if not self._changed:
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._send)
        self._changed[organization].add(pfa_id)

    def report(self) -> dict[str, Any]:
        counts = {name: self._counts[name] for name in ("events", "delivered", "failedTries", "givenUp")}
        return {"urls": list(self.subscriptions), **counts}

    def kept(self) -> bytes:
        """The subscriptions as a line of the state file, which is readable by its owner only."""
        return to_json({"webhooks": [asdict(subscription) for subscription in self.subscriptions.values()]})

    def replay(self, kept: list[dict[str, Any]]) -> None:
        self.subscriptions = {item["url"]: Subscription(**item) for item in kept}

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._http is not None:
            await self._http.close()

    def _send(self) -> None:
        changed, self._changed = self._changed, defaultdict(set)
        for organization, pfa_ids in changed.items():
            ordered = sorted(pfa_ids)
            for start in range(0, len(ordered), _IDS_PER_EVENT):
                self._announce(organization, ordered[start : start + _IDS_PER_EVENT])

    def _announce(self, organization: str, pfa_ids: list[str]) -> None:
        event = {"id": f"evt-{uuid4()}", "event": "pfa.changed", "organizationCode": organization, "pfaIds": pfa_ids}
        body = to_json(event)
        for subscription in self.subscriptions.values():
            self._counts["events"] += 1
            times = 2 if self._random.random() < subscription.repeat else 1
            for _ in range(times):
                task = asyncio.get_running_loop().create_task(self._deliver(subscription, body))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _deliver(self, subscription: Subscription, body: bytes) -> None:
        for pause in (*_PAUSES_SECONDS, None):
            if await self._tried(subscription, body):
                self._counts["delivered"] += 1
                return
            self._counts["failedTries"] += 1
            if pause is not None:
                await asyncio.sleep(pause)
        self._counts["givenUp"] += 1

    async def _tried(self, subscription: Subscription, body: bytes) -> bool:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        headers = {"Content-Type": "application/json", **signature(subscription.secret, body, self._clock.now())}
        try:
            async with self._http.post(subscription.url, data=body, headers=headers, allow_redirects=False) as reply:
                return reply.status in (200, 202)
        except (aiohttp.ClientError, TimeoutError):
            return False


def signature(secret: str, body: bytes, now: float) -> dict[str, str]:
    """The two headers of the contract."""
    timestamp = str(int(now))
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-PEMS-Timestamp": timestamp, "X-PEMS-Signature": f"sha256={digest}"}
