"""Workers that are connected and hear nothing: each finds out by itself and is started anew (D5). Others are left alone."""

from __future__ import annotations

import os
import signal
import time

import pytest
import redis
from celery import Celery

from tests.acceptance.fleet import Fleet, wait_until

pytestmark = pytest.mark.process


def deafen(running: Fleet, queue: str) -> None:
    """By Celery's own remote control: connection, heartbeats and other queues go on."""
    app = Celery(broker=running.stack.services.redis_url)
    told = app.control.cancel_consumer(queue, reply=True, timeout=2)
    assert any("no longer consuming" in str(answer) for answer in told), told


def critical(running: Fleet, role: str) -> str:
    logs = (running.stack.options.var_dir / "log").glob(f"{role}*.log")
    return "\n".join(line for log in logs for line in log.read_text().splitlines() if "worker_is_deaf" in line)


def test_it_leaves_busy_and_stopped_workers_alone(watched: Fleet) -> None:
    """Every slot busy with a slow PEMS while messages wait, then a worker that was stopped: neither is deaf."""
    before = watched.stack.pids()
    watched.sandbox.settings(latency_ms=1500)
    edits = [watched.edit(f"BUSY-{number}") for number in range(6)]
    (control,) = before["worker-control"]
    os.kill(control, signal.SIGSTOP)
    time.sleep(5)
    os.kill(control, signal.SIGCONT)
    watched.sandbox.settings(latency_ms=0)
    for modification_id, _ in edits:
        watched.wait_for(modification_id, "synced")
    time.sleep(2)
    after = watched.stack.pids()
    for role in ("worker-write", "worker-control"):
        assert (after[role], critical(watched, role)) == (before[role], "")


@pytest.mark.parametrize(("queue", "role"), [("pems.write", "worker-write"), ("pems.dispatch", "worker-control")])
def test_deaf_workers_are_started_anew_and_the_edit_is_written_once(watched: Fleet, queue: str, role: str) -> None:
    before = set(watched.stack.pids()[role])
    deafen(watched, queue)
    modification_id, pfa_id = watched.edit(f"DEAF-{role}")
    wait_until(lambda: not before & set(watched.stack.pids()[role]), 30, lambda: critical(watched, role))
    watched.wait_for(modification_id, "synced")
    assert len(watched.applied(pfa_id)) == 1
    assert f'"queue": "{queue}"' in critical(watched, role)


def test_a_drained_worker_is_left_to_finish(watched: Fleet) -> None:
    """SIGTERM: it listens no more, on purpose, and has time to end what it holds."""
    said = critical(watched, "worker-write")
    watched.sandbox.settings(latency_ms=1500)
    modification_id, pfa_id = watched.edit("DRAINED")
    for pid in watched.stack.pids()["worker-write"]:
        os.kill(pid, signal.SIGTERM)
    watched.wait_for(modification_id, "synced")
    assert len(watched.applied(pfa_id)) == 1
    assert critical(watched, "worker-write") == said


def test_a_redis_that_is_gone_is_no_deafness(watched: Fleet) -> None:
    said = {role: critical(watched, role) for role in ("worker-write", "worker-control")}
    store = redis.Redis.from_url(watched.stack.services.redis_url)
    (pid,) = watched.stack.pids()["redis"]
    os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: bool(store.ping()), 10)
    modification_id, _ = watched.edit("REDIS-BACK")
    watched.wait_for(modification_id, "synced")
    assert {role: critical(watched, role) for role in said} == said
