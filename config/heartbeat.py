"""Workers say in Redis that they live, which queues they serve, and when a sweep last ended. For config.health."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import structlog
from celery.signals import heartbeat_sent, task_success, worker_ready
from redis.exceptions import RedisError

from pems_sync.store import redis_store

PREFIX = "pems-sync:worker:"
LIVES_SECONDS = 15
SWEPT = "pems-sync:swept"

log = structlog.get_logger(__name__)


@worker_ready.connect
def _ready(sender: Any, **_: Any) -> None:
    beat(sender.hostname, sender.app.amqp.queues.consume_from)


@heartbeat_sent.connect
def _beat(sender: Any, **_: Any) -> None:
    """In the main process of a worker, every 2 seconds."""
    beat(sender.eventer.hostname, sender.eventer.app.amqp.queues.consume_from)


@task_success.connect
def _swept(sender: Any, **_: Any) -> None:
    """In whichever process ran the task. A sweep that failed is none."""
    if sender.name == "pems_sync.sweep":
        swept()


def swept() -> None:
    """A sweep has ended just now, by Redis's clock."""
    try:
        redis_store().set(SWEPT, _redis_seconds(), ex=86_400)
    except RedisError as error:
        log.warning("heartbeat_lost", error=type(error).__name__)


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


def last_sweep_seconds_ago() -> float | None:
    """None: none in the last day, as far as Redis knows. Raises RedisError."""
    at = redis_store().get(SWEPT)
    return None if at is None else round(max(0.0, _redis_seconds() - float(at)), 3)


def _redis_seconds() -> float:
    seconds, microseconds = redis_store().time()
    return float(seconds) + float(microseconds) / 1e6
