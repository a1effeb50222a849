"""Bells: messages that say "look", by task name. The row is the truth, so a bell that cannot be rung is only logged.

Arguments are ids. The version travels as a header, which a worker of a release before does not read; as a keyword it would
refuse the message. README.md, *Upgrading*, says when to raise it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

MESSAGE_VERSION = 1
VERSION_HEADER = "bell_version"
"""Without it: version 1."""

log = structlog.get_logger(__name__)


def ring(connection_id: int, *, in_seconds: float = 0) -> None:
    """There may be something to send on this connection."""
    _send("pems_sync.pump", [connection_id], shown=f"connection {connection_id}", countdown=min(in_seconds, 60))


def ring_on_commit(connection_id: int, *, in_seconds: float = 0) -> None:
    transaction.on_commit(lambda: ring(connection_id, in_seconds=in_seconds))


def deliver(delivery_id: UUID, *, shown: str) -> None:
    """`shown` is what support reads in Flower: organization, PFA id, reason."""
    _send("pems_sync.deliver", [str(delivery_id)], shown=shown)


def worker_lost(delivery_id: str) -> None:
    """Rung by the worker itself, for a child that died. Lost, the lease expires all the same."""
    _send("pems_sync.worker_lost", [delivery_id], shown=f"delivery {delivery_id}")


def prove(modification_ids: Iterable[UUID], *, shown: str) -> None:
    _send("pems_sync.prove", [[str(modification_id) for modification_id in modification_ids]], shown=shown)


def refresh(record_id: int, *, shown: str) -> None:
    _send("pems_sync.refresh", [record_id], shown=shown)


def pull(organization_id: int, *, shown: str) -> None:
    """Its turn is taken for 15 seconds: a bell that was not heard by then is rung anew, and this one forgotten."""
    _send("pems_sync.pull", [organization_id], shown=shown, expires=15)


def pull_on_commit(organization_id: int, *, shown: str) -> None:
    transaction.on_commit(lambda: pull(organization_id, shown=shown))


def read_named(organization_id: int, *, shown: str) -> None:
    """Rung each second while there are names."""
    _send("pems_sync.read_named", [organization_id], shown=shown, expires=15)


def reconcile(organization_id: int, *, shown: str) -> None:
    _send("pems_sync.reconcile", [organization_id], shown=shown)


def conserve() -> None:
    """Rung each second while the count of this minute is due."""
    _send("pems_sync.conserve", [], shown="every accepted edit", expires=15)


def dead_letter_on_commit(modification_id: UUID, *, shown: str) -> None:
    transaction.on_commit(lambda: _send("pems_sync.dead_letter", [str(modification_id)], shown=shown))


def _send(name: str, arguments: list[Any], *, shown: str, countdown: float = 0, expires: float | None = None) -> None:
    options: dict[str, Any] = {"argsrepr": f"({shown})", "retry": False, "headers": {VERSION_HEADER: MESSAGE_VERSION}}
    try:
        current_app.send_task(name, args=arguments, countdown=countdown or None, expires=expires, **options)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("bell_lost", task=name, error=type(error).__name__)
