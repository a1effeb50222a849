"""Three questions without a sign-in, and no data in the answers (D5, I12)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from config import health, heartbeat
from pems_sync.models import Connection, Modification, Organization
from pems_sync.store import redis_store
from tests.cast import Cast
from tests.integration import api_acts as acts

WRITE_SYNC = "/api/health/write-sync"


@pytest.fixture
def get():
    return Client().get


@pytest.fixture
def worker(db) -> None:
    heartbeat.beat("write1@here", ["pems.write"])
    heartbeat.beat("control@here", ["pems.dispatch", "pems.read"])


def test_live_asks_nobody(get) -> None:
    assert get("/api/health/live").json() == {"status": "live"}


def test_ready_asks_three(get, db) -> None:
    answer = get("/api/health/ready")
    assert answer.status_code == 200
    assert answer.json()["checks"] == {"postgresql": "ok", "redis": "ok", "migrations": "ok"}


def test_not_ready_names_what_is_missing_and_nothing_else(get, db, monkeypatch) -> None:
    import redis

    gone = redis.Redis(port=1, socket_connect_timeout=0.2)
    monkeypatch.setattr(health, "redis_store", lambda: gone)
    answer = get("/api/health/ready")
    assert (answer.status_code, answer.json()["error"]) == (503, "NOT_READY")
    assert answer.json()["details"]["checks"] == {"postgresql": "ok", "redis": "no answer", "migrations": "ok"}
    assert "127.0.0.1" not in answer.content.decode()


def test_missing_migrations_are_not_ready(get, db, monkeypatch) -> None:
    from django.db.migrations.recorder import MigrationRecorder

    monkeypatch.setattr(health, "_migrated", False)
    MigrationRecorder.Migration.objects.filter(app="conflicts").delete()
    answer = get("/api/health/ready")
    assert (answer.status_code, answer.json()["details"]["checks"]["migrations"]) == (503, "not applied")


def test_write_sync_needs_a_write_worker(get, db) -> None:
    heartbeat.beat("control@here", ["pems.dispatch"])
    answer = get(WRITE_SYNC)
    assert (answer.status_code, answer.json()["error"]) == (503, "NO_WORKERS")
    heartbeat.beat("write1@here", ["pems.write"])
    assert get(WRITE_SYNC).status_code == 200


def test_a_heartbeat_ends(worker) -> None:
    assert 0 < redis_store().ttl("pems-sync:worker:pems.write:write1@here") <= 15


def test_write_sync_tells_the_size_of_the_queue(get, worker, cast: Cast, rio, make_record) -> None:
    for _ in range(3):
        acts.queued(make_record(rio), cast.planner)
    body = get(WRITE_SYNC).json()
    assert (body["status"], body["writeWorkers"], body["queueSize"], body["stuck"]) == ("ok", 1, 3, False)
    assert body["workers"] == {"pems.write": 1, "pems.dispatch": 1, "pems.read": 1}
    assert 0 <= body["oldestDueSeconds"] < 60
    assert "rio" not in str(body)


def test_stuck_is_due_for_two_minutes_and_nothing_claimed(get, worker, cast: Cast, rio, make_record, settings) -> None:
    acts.queued(make_record(rio), cast.planner)
    Modification.objects.update(queued_at=timezone.now() - timedelta(minutes=3))
    answer = get(WRITE_SYNC)
    assert (answer.status_code, answer.json()["error"]) == (503, "STUCK")
    for willing in (
        lambda: Organization.objects.update(claimed_at=timezone.now()),
        lambda: Organization.objects.update(claimed_at=None, paused_at=timezone.now()),
        lambda: (Organization.objects.update(paused_at=None), Connection.objects.update(paused_at=timezone.now())),
        lambda: Connection.objects.update(paused_at=None, held_until=timezone.now() + timedelta(minutes=1)),
    ):
        willing()
        assert get(WRITE_SYNC).status_code == 200
    Connection.objects.update(held_until=None)
    assert get(WRITE_SYNC).status_code == 503
    settings.ENABLE_WRITE_SYNC = False
    assert get(WRITE_SYNC).json()["sendingEnabled"] is False


def test_a_retry_that_is_not_due_is_not_stuck(get, worker, cast: Cast, rio, make_record) -> None:
    acts.queued(make_record(rio), cast.planner)
    Modification.objects.update(
        queued_at=timezone.now() - timedelta(hours=1), not_before=timezone.now() + timedelta(minutes=1)
    )
    Organization.objects.update(claimed_at=None)
    body = get(WRITE_SYNC).json()
    assert (body["stuck"], body["oldestDueSeconds"]) == (False, None)
