"""Three questions an orchestrator asks: is the process up, can it serve, does the queue move. No sign-in, no data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Exists, Max, Min, OuterRef, Q
from django.db.models.functions import Greatest
from drf_spectacular.utils import OpenApiResponse, extend_schema
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BooleanField, CharField, ChoiceField, DictField, FloatField, IntegerField

from config.errors import envelope
from config.heartbeat import workers_by_queue
from pems_sync.api.endpoint import OpenEndpoint
from pems_sync.api.shapes import ErrorShape, Shape
from pems_sync.clock import database_now
from pems_sync.models import Modification, Organization
from pems_sync.states import State
from pems_sync.store import redis_store

STUCK_AFTER = timedelta(minutes=2)

log = structlog.get_logger(__name__)


class LiveShape(Shape):
    status = CharField()


class ReadyShape(Shape):
    status = CharField()
    checks = DictField(child=CharField())


class WriteSyncHealth(Shape):
    status = ChoiceField(["ok", "no_workers", "stuck"])
    writeWorkers = IntegerField()
    workers = DictField(child=IntegerField(), help_text="workers by queue")
    queueSize = IntegerField()
    oldestDueSeconds = FloatField(allow_null=True)
    stuck = BooleanField()
    sendingEnabled = BooleanField()


class LiveView(OpenEndpoint):
    @extend_schema("health_live", auth=[], responses={200: LiveShape})
    def get(self, request: Request) -> Response:
        """The process is up. Asks nobody else."""
        return Response({"status": "live"})


class ReadyView(OpenEndpoint):
    @extend_schema(
        "health_ready", auth=[], responses={200: ReadyShape, 503: OpenApiResponse(ErrorShape, "something is missing")}
    )
    def get(self, request: Request) -> Response:
        """PostgreSQL, Redis and the migrations: nothing that a restart of this process could not need."""
        checks = {name: _ask(name, question) for name, question in _QUESTIONS.items()}
        missing = [name for name, answer in checks.items() if answer != "ok"]
        if not missing:
            return Response({"status": "ready", "checks": checks})
        message = f"Not ready: {', '.join(missing)}."
        return Response(envelope(request, code="NOT_READY", message=message, details={"checks": checks}), status=503)


def _ask(name: str, question: Callable[[], str]) -> str:
    try:
        return question()
    except (DatabaseError, RedisError) as error:
        log.warning("not_ready", part=name, error=type(error).__name__)
        return "no answer"


def _postgresql() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return "ok"


def _redis() -> str:
    redis_store().ping()
    return "ok"


_migrated = False


def _migrations() -> str:
    """Once they are applied, they stay so for this process."""
    global _migrated
    if not _migrated:
        executor = MigrationExecutor(connection)
        _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return "ok" if _migrated else "not applied"


_QUESTIONS: dict[str, Callable[[], str]] = {"postgresql": _postgresql, "redis": _redis, "migrations": _migrations}


class WriteSyncView(OpenEndpoint):
    @extend_schema(
        "health_write_sync",
        auth=[],
        responses={200: WriteSyncHealth, 503: OpenApiResponse(ErrorShape, "edits are not being sent")},
    )
    def get(self, request: Request) -> Response:
        """Whether edits move: write workers are alive, and what is due is taken up within two minutes (D5)."""
        try:
            found = write_sync_health()
        except (DatabaseError, RedisError) as error:
            log.warning("write_sync_unhealthy", error=type(error).__name__)
            message = "The queue cannot be looked at: see /api/health/ready."
            return Response(envelope(request, code="NOT_READY", message=message), status=503)
        if found["status"] == "ok":
            return Response(found)
        body = envelope(request, code=found["status"].upper(), message=_TROUBLES[found["status"]], details=found)
        return Response(body, status=503)


_TROUBLES = {
    "no_workers": "No write worker has been heard of for 15 seconds: edits are accepted and wait.",
    "stuck": "Edits are due and may be sent, yet none has been taken up for 2 minutes.",
}


def write_sync_health() -> dict[str, Any]:
    now = database_now()
    workers = workers_by_queue()
    oldest_at = _oldest_due_at(now)
    stuck = _is_stuck(now)
    status = "no_workers" if not workers["pems.write"] else "stuck" if stuck else "ok"
    return {
        "status": status,
        "writeWorkers": workers["pems.write"],
        "workers": dict(workers),
        "queueSize": Modification.objects.filter(state=State.QUEUED).count(),
        "oldestDueSeconds": round((now - oldest_at).total_seconds(), 3) if oldest_at else None,
        "stuck": stuck,
        "sendingEnabled": bool(settings.ENABLE_WRITE_SYNC),
    }


def _oldest_due_at(now: datetime) -> datetime | None:
    """Since when the oldest edit that may be sent now has been waiting."""
    due = Modification.objects.sendable(now).filter(organization__in=_willing(now))
    oldest: datetime | None = due.aggregate(at=Min(Greatest("queued_at", "not_before")))["at"]
    return oldest


def _willing(now: datetime) -> Any:
    """Organizations whose edits may be sent: neither paused nor resting."""
    rows = Organization.objects.filter(paused_at=None, connection__paused_at=None)
    return rows.filter(Q(connection__held_until=None) | Q(connection__held_until__lte=now))


def _is_stuck(now: datetime) -> bool:
    """Something has been due for two minutes, and nothing of its connection was claimed in that time."""
    if not settings.ENABLE_WRITE_SYNC:
        return False
    since = now - STUCK_AFTER
    overdue = Modification.objects.sendable(since).filter(organization=OuterRef("pk"), queued_at__lte=since)
    waiting = _willing(now).filter(Exists(overdue)).values("connection")
    claimed = Organization.objects.filter(connection__in=waiting).values("connection").annotate(last=Max("claimed_at"))
    return claimed.filter(Q(last=None) | Q(last__lte=since)).exists()
