"""Three questions without a sign-in, and no data in the answers (D5, I12)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
import redis
from celery.signals import task_success
from django.db import connection as database
from django.test import Client
from django.utils import timezone

from config import health, heartbeat
from pems_sync import scheduling, tasks
from pems_sync.models import Connection, JournalEntry, MaintenanceWindow, Modification, Organization
from pems_sync.services import crashing, people
from pems_sync.states import State
from pems_sync.store import redis_store
from tests.cast import Cast, make_connection, make_organization
from tests.integration import api_acts as acts

WRITE_SYNC = "/api/health/write-sync"


@pytest.fixture
def get():
    return Client().get


@pytest.fixture
def worker(db) -> None:
    heartbeat.beat("write1@here", ["pems.write"])
    heartbeat.beat("control@here", ["pems.dispatch", "pems.read"])
    heartbeat.swept()


def test_live_asks_nobody(get) -> None:
    assert get("/api/health/live").json() == {"status": "live"}


def test_ready_asks_three(get, db) -> None:
    answer = get("/api/health/ready")
    assert answer.status_code == 200
    assert answer.json()["checks"] == {"postgresql": "ok", "redis": "ok", "migrations": "ok"}


def test_not_ready_names_what_is_missing_and_nothing_else(get, db, monkeypatch) -> None:
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
    heartbeat.swept()
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


def waiting(record, user, minutes: float = 3) -> Modification:
    """An edit as if committed minutes ago, untouched since. The journal is dated back as well."""
    row = acts.queued(record, user, model="330 GC")
    then = timezone.now() - timedelta(minutes=minutes)
    Modification.objects.filter(pk=row.pk).update(queued_at=then, rank_at=then)
    with guards_off():
        JournalEntry.objects.update(recorded_at=then)
    return row


@contextmanager
def guards_off() -> Iterator[None]:
    with database.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        yield
        cursor.execute("SET session_replication_role = origin")


def moment(**ago: float) -> datetime:
    return timezone.now() + timedelta(**ago)


def test_stuck_is_due_for_two_minutes_and_nothing_claimed(get, worker, cast: Cast, rio, make_record) -> None:
    waiting(make_record(rio), cast.planner)
    answer = get(WRITE_SYNC)
    assert (answer.status_code, answer.json()["error"]) == (503, "STUCK")
    assert answer.json()["details"]["oldestDueSeconds"] > 170
    scheduling.claim(rio.connection_id)
    assert get(WRITE_SYNC).status_code == 200


def test_a_minute_is_not_stuck(get, worker, cast: Cast, rio, make_record) -> None:
    waiting(make_record(rio), cast.planner, minutes=1)
    assert get(WRITE_SYNC).status_code == 200


NOW_OR_JUST_BEFORE = {
    "claimed for another organization": lambda: Organization.objects.filter(code="PORTARTHUR").update(
        claimed_at=timezone.now()
    ),
    "organization paused": lambda: Organization.objects.filter(code="RIO").update(paused_at=timezone.now()),
    "organization restored": lambda: Organization.objects.filter(code="RIO").update(restored_at=timezone.now()),
    "connection paused": lambda: Connection.objects.update(paused_at=timezone.now()),
    "resting": lambda: Connection.objects.update(held_until=moment(minutes=1)),
    "rested until a second ago": lambda: Connection.objects.update(held_until=moment(seconds=-1)),
    "breaker open": lambda: Connection.objects.update(breaker="open", breaker_since=moment(hours=-1)),
    "breaker closed a second ago": lambda: Connection.objects.update(breaker_since=moment(seconds=-1)),
    "window over a second ago": lambda: MaintenanceWindow.objects.create(
        connection=Connection.objects.get(), name="night", minutes=60,
        starts=(moment(minutes=-61)).time(), first_day=moment(minutes=-61).date(),
    ),
    "in a window": lambda: MaintenanceWindow.objects.create(
        connection=Connection.objects.get(), name="night", minutes=60, starts=moment(minutes=-30).time()
    ),
    "head of its lane conflicted": lambda: Modification.objects.update(state=State.CONFLICTED),
}  # fmt: skip


@pytest.mark.parametrize("why", NOW_OR_JUST_BEFORE)
def test_what_may_not_be_sent_or_not_for_two_minutes_yet_is_not_stuck(
    get, worker, cast: Cast, rio, portarthur, make_record, why
) -> None:
    waiting(make_record(rio), cast.planner)
    assert get(WRITE_SYNC).json()["error"] == "STUCK"
    with guards_off():
        NOW_OR_JUST_BEFORE[why]()
    assert get(WRITE_SYNC).status_code == 200, why


def test_switched_off_is_not_stuck(get, worker, cast: Cast, rio, make_record, settings) -> None:
    waiting(make_record(rio), cast.planner)
    settings.ENABLE_WRITE_SYNC = False
    body = get(WRITE_SYNC).json()
    assert (body["status"], body["sendingEnabled"]) == ("ok", False)


def test_a_queue_resumed_just_now_is_not_stuck(get, worker, cast: Cast, rio, make_record) -> None:
    waiting(make_record(rio), cast.planner)
    people.pause(organization=rio, user=cast.admin, reason="a test")
    people.resume(organization=rio, user=cast.admin)
    assert get(WRITE_SYNC).status_code == 200


def test_an_edit_behind_one_that_has_just_gone_is_not_stuck(get, worker, cast: Cast, rio, make_record) -> None:
    """It was committed long ago; it is the head of its lane since a moment."""
    record = make_record(rio)
    waiting(record, cast.planner)
    assert scheduling.claim(rio.connection_id)
    Organization.objects.update(claimed_at=moment(minutes=-3))
    Modification.objects.update(lease_until=moment(seconds=-1))
    assert crashing.return_expired() == 1
    assert get(WRITE_SYNC).status_code == 200


def test_a_pems_that_takes_minutes_is_slow_not_stuck(get, worker, cast: Cast, rio, make_record) -> None:
    waiting(make_record(rio), cast.planner)
    scheduling.claim(rio.connection_id)
    waiting(make_record(rio), cast.planner)
    Organization.objects.update(claimed_at=moment(minutes=-3))
    assert get(WRITE_SYNC).status_code == 200
    Modification.objects.filter(state=State.SENDING).update(lease_until=moment(seconds=-1))
    assert get(WRITE_SYNC).status_code == 503, "a lease that has ended excuses nothing"


def test_one_stuck_connection_is_enough(get, worker, cast: Cast, rio, make_record) -> None:
    waiting(make_record(rio), cast.planner)
    fine = make_organization(make_connection(slug="other"), "org-other", "OTHER")
    Organization.objects.filter(pk=fine.pk).update(claimed_at=timezone.now())
    assert get(WRITE_SYNC).json()["error"] == "STUCK"


def test_no_sweep_for_half_a_minute_is_told(get, worker) -> None:
    assert 0 <= get(WRITE_SYNC).json()["lastSweepSecondsAgo"] < 30
    seconds, _ = redis_store().time()
    redis_store().set(heartbeat.SWEPT, seconds - 31)
    answer = get(WRITE_SYNC)
    assert (answer.status_code, answer.json()["error"]) == (503, "NO_SWEEP")
    redis_store().delete(heartbeat.SWEPT)
    assert get(WRITE_SYNC).json()["details"]["lastSweepSecondsAgo"] is None


def test_a_sweep_says_that_it_has_ended(get, worker) -> None:
    redis_store().delete(heartbeat.SWEPT)
    task_success.send(sender=tasks.sweep, result=None)
    assert get(WRITE_SYNC).status_code == 200


def test_ready_never_depends_on_the_backlog(get, worker, cast: Cast, rio, make_record) -> None:
    waiting(make_record(rio), cast.planner)
    redis_store().flushdb()
    assert get(WRITE_SYNC).status_code == 503
    assert get("/api/health/ready").status_code == 200


def test_without_redis_nothing_moves(get, worker, monkeypatch) -> None:
    gone = redis.Redis(port=1, socket_connect_timeout=0.2)
    monkeypatch.setattr(heartbeat, "redis_store", lambda: gone)
    assert (get(WRITE_SYNC).status_code, get(WRITE_SYNC).json()["error"]) == (503, "NOT_READY")


def test_a_retry_that_is_not_due_is_not_stuck(get, worker, cast: Cast, rio, make_record) -> None:
    acts.queued(make_record(rio), cast.planner)
    Modification.objects.update(
        queued_at=timezone.now() - timedelta(hours=1), not_before=timezone.now() + timedelta(minutes=1)
    )
    Organization.objects.update(claimed_at=None)
    body = get(WRITE_SYNC).json()
    assert (body["stuck"], body["oldestDueSeconds"]) == (False, None)
