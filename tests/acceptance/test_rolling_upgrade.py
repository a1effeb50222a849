"""Old and new workers side by side: messages of the release before and of the one after, on real queues (D2).

The release before sent the same messages without a version; the one after may send other versions, keywords and tasks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest
from celery import Celery

from deploy.local.program import ROOT
from pems_sync.dispatch import MESSAGE_VERSION, VERSION_HEADER
from tests.acceptance.fleet import Fleet, wait_until

pytestmark = pytest.mark.process
NEXT = {VERSION_HEADER: MESSAGE_VERSION + 1}


@pytest.fixture
def other_release(watched: Fleet) -> Celery:
    return Celery(broker=watched.stack.services.redis_url)


@pytest.fixture
def beatless(watched: Fleet) -> Iterator[None]:
    """Only the messages of the test ring."""
    watched.stack.supervisor.stop_role("beat")
    yield
    watched.stack.start_role("beat")


def ask(running: Fleet, sql: str, *values: object) -> list[tuple[object, ...]]:
    with psycopg.connect(running.stack.services.database_url) as database:
        done = database.execute(sql, values)  # type: ignore[arg-type]
        return done.fetchall() if done.description else []


def unheard_edit(running: Fleet, model: str) -> tuple[str, str]:
    """Committed while its organization was paused: nobody rings for it any more."""
    ask(running, "UPDATE pems_sync_organization SET paused_at = now()")
    edit = running.edit(model)
    time.sleep(0.5)  # its own bell has been heard
    ask(running, "UPDATE pems_sync_organization SET paused_at = NULL")
    return edit


def log_line(running: Fleet, role: str, words: str) -> bool:
    logs = (running.stack.options.var_dir / "log").glob(f"{role}*.log")
    return any(words in log.read_text() for log in logs)


def pump(app: Celery, running: Fleet, **options: object) -> None:
    ((connection,),) = ask(running, "SELECT connection_id FROM pems_sync_organization WHERE slug = 'org-rio'")
    app.send_task("pems_sync.pump", args=[connection], queue="pems.dispatch", retry=False, **options)


def test_messages_of_both_sides_write_every_edit_once(watched: Fleet, other_release: Celery, beatless: None) -> None:
    modification_id, pfa_id = unheard_edit(watched, "BEFORE-AND-AFTER")
    pump(other_release, watched, headers=NEXT)
    wait_until(lambda: log_line(watched, "worker-control", "bell_of_a_newer_release"), 20)
    assert watched.look(modification_id)["status"] == "queued", "a version not understood is left alone"
    watched.sandbox.settings(latency_ms=800)
    pump(other_release, watched)  # as the release before rings
    wait_until(lambda: bool(delivery(watched, modification_id)), 20)
    for options in ({}, {"headers": NEXT}, {"kwargs": {"hurry": True}}):
        other_release.send_task(
            "pems_sync.deliver", args=delivery(watched, modification_id), queue="pems.write", **options
        )
    watched.sandbox.settings(latency_ms=0)
    watched.wait_for(modification_id, "synced")
    wait_until(lambda: log_line(watched, "worker-write", "bell_says_more"), 20)
    assert len(watched.applied(pfa_id)) == 1
    modification_id, pfa_id = unheard_edit(watched, "MORE-WORDS")
    pump(other_release, watched, kwargs={"hurry": True})
    watched.wait_for(modification_id, "synced")
    assert len(watched.applied(pfa_id)) == 1


def delivery(running: Fleet, modification_id: str) -> list[str]:
    found = ask(
        running, "SELECT delivery_id FROM pems_sync_modification WHERE id = %s AND state = 'sending'", modification_id
    )
    return [str(each) for (each,) in found]


def test_tasks_nobody_here_knows_stop_no_worker(watched: Fleet, other_release: Celery) -> None:
    before = watched.stack.pids()
    for queue in ("pems.write", "pems.dispatch", "pems.read", "pems.dlq"):
        for _ in range(8):
            other_release.send_task("pems_sync.of_next_year", args=[1], queue=queue, headers=NEXT)
    edits = [watched.edit(f"UNKNOWN-{number}") for number in range(3)]
    for modification_id, pfa_id in edits:
        watched.wait_for(modification_id, "synced")
        assert len(watched.applied(pfa_id)) == 1
    assert log_line(watched, "worker-write", "pems_sync.of_next_year")
    for role in ("worker-write", "worker-control"):
        assert watched.stack.pids()[role] == before[role]


def test_a_worker_before_its_migration_ends_with_a_sentence(watched: Fleet) -> None:
    lacking = "DELETE FROM django_migrations WHERE app = 'pems_sync' AND name > '0003_two_directions'"
    rows = ask(watched, lacking + " RETURNING app, name, applied")
    try:
        worker = (
            sys.executable,
            "-m",
            "celery",
            "-A",
            "config",
            "worker",
            "-Q",
            "pems.dlq",
            "-P",
            "solo",
            "-n",
            "early@here",
        )
        ended = subprocess.run(
            worker, cwd=ROOT, env=os.environ | watched.stack.environment("worker-control"), capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        for row in rows:
            ask(watched, "INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, %s)", *row)
    assert ended.returncode not in (0, None)
    assert "pems_sync.0004_reliability" in ended.stderr
    assert "Run manage.py migrate, then start this worker." in ended.stderr
