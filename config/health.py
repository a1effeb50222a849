"""Three questions an orchestrator asks: is the process up, can it serve, does the queue move. No sign-in, no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Min
from django.db.models.functions import Greatest
from drf_spectacular.utils import OpenApiResponse, extend_schema
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BooleanField, CharField, ChoiceField, DictField, FloatField, IntegerField

from config.errors import envelope
from config.heartbeat import last_sweep_seconds_ago, workers_by_queue
from config.schema import missing_migrations
from pems_sync import conserving, moving
from pems_sync.api.endpoint import OpenEndpoint
from pems_sync.api.shapes import ErrorShape, Shape
from pems_sync.clock import database_now
from pems_sync.models import Conservation, Modification
from pems_sync.states import State
from pems_sync.store import redis_store

SWEEP_WITHIN_SECONDS = 30

log = structlog.get_logger(__name__)


class LiveShape(Shape):
    status = CharField()


class ReadyShape(Shape):
    status = CharField()
    checks = DictField(child=CharField())


class ConservationShape(Shape):
    difference = IntegerField(help_text="accepted edits that are in no state, over all organizations: 0, or an alarm")
    checkedSecondsAgo = FloatField(allow_null=True, help_text="null: not counted yet")


class WriteSyncHealth(Shape):
    status = ChoiceField(["ok", "no_workers", "stuck", "no_sweep"])
    writeWorkers = IntegerField()
    workers = DictField(child=IntegerField(), help_text="workers by queue")
    queueSize = IntegerField()
    oldestDueSeconds = FloatField(allow_null=True)
    stuck = BooleanField()
    lastSweepSecondsAgo = FloatField(allow_null=True)
    sendingEnabled = BooleanField()
    conservation = ConservationShape()


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
    _migrated = _migrated or not missing_migrations()
    return "ok" if _migrated else "not applied"


_QUESTIONS: dict[str, Callable[[], str]] = {"postgresql": _postgresql, "redis": _redis, "migrations": _migrations}


class WriteSyncView(OpenEndpoint):
    @extend_schema(
        "health_write_sync",
        auth=[],
        responses={200: WriteSyncHealth, 503: OpenApiResponse(ErrorShape, "edits are not being sent")},
    )
    def get(self, request: Request) -> Response:
        """Whether edits move: write workers are alive, what is due is taken up within two minutes, and lost messages are
        looked for (D5). For alarms; a restart of the web process mends none of it."""
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
    "no_sweep": "No sweep has ended for 30 seconds: look at beat and at the worker of pems.dispatch. Until then lost"
    " messages, unknown outcomes and expired leases wait.",
}


def write_sync_health() -> dict[str, Any]:
    """Raises RedisError: without Redis nothing is sent, and who lives is not known."""
    now = database_now()
    workers = workers_by_queue()
    swept = last_sweep_seconds_ago()
    oldest_at = _oldest_due_at(now)
    stuck = moving.is_stuck(now)
    return {
        "status": _status(workers, stuck, swept),
        "writeWorkers": workers["pems.write"],
        "workers": dict(workers),
        "queueSize": Modification.objects.filter(state=State.QUEUED).count(),
        "oldestDueSeconds": round((now - oldest_at).total_seconds(), 3) if oldest_at else None,
        "stuck": stuck,
        "lastSweepSecondsAgo": swept,
        "sendingEnabled": bool(settings.ENABLE_WRITE_SYNC),
        "conservation": _conservation(now),
    }


def _status(workers: Mapping[str, int], stuck: bool, swept: float | None) -> str:
    if not workers.get("pems.write"):
        return "no_workers"
    if stuck:
        return "stuck"
    return "no_sweep" if swept is None or swept > SWEEP_WITHIN_SECONDS else "ok"


def _conservation(now: datetime) -> dict[str, Any]:
    """Sums only: this page names no organization. It changes no status, because edits move all the same."""
    checked_at = Conservation.objects.aggregate(at=Min("checked_at"))["at"]
    ago = round((now - checked_at).total_seconds(), 3) if checked_at else None
    return {"difference": conserving.differences(), "checkedSecondsAgo": ago}


def _oldest_due_at(now: datetime) -> datetime | None:
    """Since when the oldest edit that may be sent now has been waiting."""
    willing = [organization.pk for each in moving.sending_connections(now) for organization in each.organizations.all()]
    due = Modification.objects.sendable(now).filter(moving.not_held_back(), organization__in=willing)
    oldest: datetime | None = due.aggregate(at=Min(Greatest("queued_at", "not_before")))["at"]
    return oldest
