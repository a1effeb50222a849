"""A worker that is connected and hears nothing ends itself, so that whoever keeps it running starts it anew (D5).

A thread in a worker's main process looks, over a connection of its own, at the queues this worker was started for. The worker
is deaf when for WORKER_WATCHDOG_SECONDS, at each look, messages waited in one of them, a slot was free, and none of that
queue was received. A look that finds anything else, or comes late (the process was stopped, the machine asleep), begins anew.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
import structlog
from celery.bootsteps import RUN  # type: ignore[attr-defined]
from celery.signals import task_received, task_rejected, task_revoked, task_unknown, worker_ready
from celery.worker import state
from django.conf import settings
from kombu.transport.redis import Channel
from redis.exceptions import RedisError

FEWEST_LOOKS = 5
WARM_SECONDS = 5.0
"""How long a deaf worker may take to finish what it holds. What is left comes back when its lease ends."""

log = structlog.get_logger(__name__)
_received: Counter[str] = Counter()


@dataclass(frozen=True)
class Look:
    """One look: `at` in monotonic seconds, messages waiting and received so far by queue, slots free. A worker that is
    connecting, ending or without Redis has no look."""

    at: float
    waiting: Mapping[str, int]
    received: Mapping[str, int]
    free: int


@dataclass
class Evidence:
    """Since when each queue has waited unheard. Pure: fed with looks, asked for the deaf queue."""

    seconds: float
    longest_gap: float
    since: dict[str, float] = field(default_factory=dict)
    looks: Counter[str] = field(default_factory=Counter)
    last: Look | None = None

    def deaf_queue(self, look: Look | None) -> str | None:
        """The queue this worker does not hear, or None."""
        before, self.last = self.last, look
        late = look is not None and before is not None and look.at - before.at > self.longest_gap
        if look is None or before is None or late or look.free <= 0:
            self._forget(list(self.since))
            return None
        for queue, waiting in look.waiting.items():
            if waiting and look.received.get(queue, 0) == before.received.get(queue, 0):
                self.since.setdefault(queue, look.at)
                self.looks[queue] += 1
            else:
                self._forget([queue])
        long = (queue for queue, at in self.since.items() if look.at - at >= self.seconds)
        return next((queue for queue in long if self.looks[queue] >= FEWEST_LOOKS), None)

    def _forget(self, queues: Iterable[str]) -> None:
        for queue in queues:
            self.since.pop(queue, None)
            self.looks.pop(queue, None)


def _note(queue: object) -> None:
    _received[str(queue)] += 1


@task_received.connect
def _of_a_known_task(request: Any, **_: Any) -> None:
    _note(request.delivery_info.get("routing_key"))


@task_revoked.connect
def _too_late(request: Any, **_: Any) -> None:
    """Expired messages are taken from the queue as well, and `task_received` is not sent for them."""
    _note((request.delivery_info or {}).get("routing_key"))


@task_unknown.connect
@task_rejected.connect
def _of_an_unknown_task(message: Any, **_: Any) -> None:
    _note(message.delivery_info.get("routing_key"))


@worker_ready.connect
def _start(sender: Any, **_: Any) -> None:
    """Once per worker, in its main process. The queues are noted now: a cancelled consumer forgets its own."""
    if settings.WORKER_WATCHDOG_SECONDS:
        queues = list(sender.app.amqp.queues.consume_from)
        threading.Thread(target=_watch, args=(sender, queues), name="watchdog", daemon=True).start()


def _watch(consumer: Any, queues: list[str]) -> None:
    seconds = float(settings.WORKER_WATCHDOG_SECONDS)
    pause = min(1.0, seconds / 10)
    evidence = Evidence(seconds, longest_gap=max(2.0, 3 * pause))
    store = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2, socket_timeout=2)
    while True:
        time.sleep(pause)
        look = _look(consumer, store, queues)
        if look is not None and (queue := evidence.deaf_queue(look)):
            _end(queue, look, seconds)
        elif look is None:
            evidence.deaf_queue(None)


def _look(consumer: Any, store: redis.Redis, queues: Iterable[str]) -> Look | None:
    if not _serves(consumer):
        return None
    received = Counter(_received)
    try:
        waiting = {queue: _length(store, queue) for queue in queues}
    except RedisError:
        return None
    return Look(time.monotonic(), waiting, received, consumer.pool.limit - len(state.reserved_requests))


def _serves(consumer: Any) -> bool:
    """Believes that it is connected, and is not ending: a drained worker has stopped listening on purpose."""
    told_to_end = any(flag not in (None, False) for flag in (state.should_stop, state.should_terminate))
    running = consumer.controller.blueprint.state == consumer.blueprint.state == RUN
    return running and not told_to_end and consumer.connection is not None


def _length(store: redis.Redis, queue: str) -> int:
    """Messages nobody has taken: kombu keeps a list per priority, and those taken elsewhere."""
    with store.pipeline(transaction=False) as pipeline:
        for step in Channel.priority_steps:
            pipeline.llen(f"{queue}{Channel.sep}{step}" if step else queue)
        return sum(pipeline.execute())


def _end(queue: str, look: Look, seconds: float) -> None:
    log.critical(
        "worker_is_deaf", queue=queue, waiting=look.waiting[queue], free=look.free, seconds=seconds, ending=os.getpid(),
        received=look.received.get(queue, 0),
    )  # fmt: skip
    state.should_stop = 1  # type: ignore[assignment]  # the main loop looks at it: finishes what it holds, then ends with this code
    time.sleep(WARM_SECONDS)
    os._exit(1)
