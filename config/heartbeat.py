"""Workers say in Redis that they live, and which queues they serve. For config.health."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import structlog
from celery.signals import heartbeat_sent, worker_ready
from redis.exceptions import RedisError

from pems_sync.store import redis_store

PREFIX = "pems-sync:worker:"
LIVES_SECONDS = 15

log = structlog.get_logger(__name__)


@worker_ready.connect
def _ready(sender: Any, **_: Any) -> None:
    beat(sender.hostname, sender.app.amqp.queues.consume_from)


@heartbeat_sent.connect
def _beat(sender: Any, **_: Any) -> None:
    """In the main process of a worker, every 2 seconds."""
    beat(sender.eventer.hostname, sender.eventer.app.amqp.queues.consume_from)


def beat(hostname: str, queues: Iterable[str]) -> None:
    """A key per queue, gone after 15 s without another beat. A worker without Redis has nothing to do anyway."""
    try:
        pipeline = redis_store().pipeline(transaction=False)
        for queue in queues:
            pipeline.set(f"{PREFIX}{queue}:{hostname}", "1", ex=LIVES_SECONDS)
        pipeline.execute()
    except RedisError as error:
        log.warning("heartbeat_lost", error=type(error).__name__)


def workers_by_queue() -> Counter[str]:
    """How many workers serve each queue. Raises RedisError."""
    keys = (key.decode() for key in redis_store().scan_iter(match=f"{PREFIX}*", count=1000))
    return Counter(key.removeprefix(PREFIX).split(":", 1)[0] for key in keys)
