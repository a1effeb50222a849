"""A worker's first task should not pay for opening connections and compiling queries: 20 to 30 ms of the way of an edit."""

from __future__ import annotations

from uuid import uuid4

import structlog
from django.db import Error, connections
from redis.exceptions import RedisError

from pems_sync import scheduling
from pems_sync.clock import database_now
from pems_sync.journal import unit_of_work
from pems_sync.models import Attempt, JournalHead, Modification
from pems_sync.records import shelf_for
from pems_sync.services.moves import lock_lanes
from pems_sync.services.sending import held_rows
from pems_sync.store import redis_store

log = structlog.get_logger(__name__)


def warm_up(*, times: int) -> None:
    """Reads nothing and writes nothing that matters. Services that are away now may be back at the first task. More
    than once, it leaves no connection open: what is forked afterwards must not share one."""
    try:
        for _ in range(times):
            _rehearse()
    except (Error, RedisError, OSError) as error:
        log.warning("not_warmed_up", error=type(error).__name__)
    if times > 1:
        connections.close_all()
        redis_store().connection_pool.disconnect()
        redis_store.cache_clear()


def _rehearse() -> None:
    redis_store().ping()
    held_rows(uuid4())
    scheduling.claim(0)
    scheduling.due_connections()
    list(Attempt.objects.filter(epoch=0)[:1])
    list(Modification.objects.provable(database_now())[:1])
    with unit_of_work():
        lock_lanes([0])
        shelf_for([0])
        JournalHead.objects.filter(pk=0).first()
