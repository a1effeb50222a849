"""A worker's first task should not pay for opening connections and compiling queries: 20 to 30 ms of the way of an edit."""

from __future__ import annotations

from uuid import uuid4

import structlog
from django.db import Error, transaction
from redis.exceptions import RedisError

from pems_sync import scheduling
from pems_sync.clock import database_now
from pems_sync.models import Attempt, JournalHead, Modification
from pems_sync.services.sending import held_rows
from pems_sync.services.transitions import lock_lanes
from pems_sync.store import redis_store

log = structlog.get_logger(__name__)


def warm_up() -> None:
    """Reads nothing and writes nothing that matters. Services that are away now may be back at the first task."""
    try:
        redis_store().ping()
        held_rows(uuid4())
        scheduling.due_connections()
        list(Attempt.objects.filter(epoch=0)[:1])
        list(JournalHead.objects.filter(pk=0))
        list(Modification.objects.provable(database_now())[:1])
        with transaction.atomic():
            lock_lanes([])
    except (Error, RedisError, OSError) as error:
        log.warning("not_warmed_up", error=type(error).__name__)
