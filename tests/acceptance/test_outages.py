"""Redis, PostgreSQL and PEMS go away and come back while edits are under way (D5, D6, D9, D12)."""

from __future__ import annotations

import os
import signal
import time

import pytest
import redis

from deploy.demo.planner import Planner
from tests.acceptance.fleet import Fleet, wait_until

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("fault_free")]


def test_a_flushed_redis_loses_no_edit(running: Fleet) -> None:
    edits = [running.edit(f"FLUSH-{number}") for number in range(5)]
    redis.Redis.from_url(running.stack.services.redis_url).flushall()
    edits.append(running.edit("FLUSH-AFTER"))
    all_synced_once(running, edits)


@pytest.mark.parametrize("role", ["redis", "postgres"])
def test_a_killed_server_loses_no_edit(running: Fleet, role: str) -> None:
    edits = [running.edit(f"{role}-{number}") for number in range(5)]
    for pid in running.stack.pids()[role]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: ready(running), 30)
    edits.append(running.edit(f"{role}-AFTER"))
    all_synced_once(running, edits)


def ready(running: Fleet) -> bool:
    return bool(running.planner.http.get(running.stack.base_url + "/api/health/ready", timeout=5).status_code == 200)


def all_synced_once(running: Fleet, edits: list[tuple[str, str]]) -> None:
    for modification_id, pfa_id in edits:
        running.wait_for(modification_id, "synced")
        assert len(running.applied(pfa_id)) == 1


def test_an_outage_of_pems_burns_no_attempt(running: Fleet) -> None:
    running.sandbox.faults(outage={"from": 0, "to": 4, "mode": "503"})
    edits = [running.edit(f"OUTAGE-{number}") for number in range(4)]
    all_synced_once(running, edits)
    assert all(running.look(modification_id)["attempts"] == 0 for modification_id, _ in edits)


def test_refused_credentials_pause_the_connection_until_a_person_resumes(running: Fleet) -> None:
    """D12: edits wait, none is burnt."""
    running.sandbox.script("status_401", operation="PUT", times=None)
    modification_id, pfa_id = running.edit("LOCKED-OUT")
    wait_until(lambda: bool(running.planner.status()["paused"]), 20, running.planner.status)
    running.sandbox.clear_faults()
    time.sleep(2)
    assert running.look(modification_id)["status"] in ("queued", "retrying")
    admin = Planner(running.stack.base_url, "org-rio", "rio-admin", running.stack.options.demo_password)
    admin.sign_in()
    admin.call("POST", "/api/pems/organizations/org-rio/resume")
    all_synced_once(running, [(modification_id, pfa_id)])


def test_a_sandbox_that_dies_keeps_what_it_applied(running: Fleet) -> None:
    first = running.edit("BEFORE")
    running.wait_for(first[0], "synced")
    for pid in running.stack.pids()["sandbox"]:
        os.kill(pid, signal.SIGKILL)
    second = running.edit("AFTER")
    running.wait_for(second[0], "synced")
    all_synced_once(running, [first, second])


def test_what_changes_in_pems_arrives_within_seconds_when_pems_says_so(running: Fleet) -> None:
    """Webhook, bell, worker, read: nobody waits for the pull of the minute."""
    secret = running.stack.environment("manage")["PEMS_WEBHOOK_SECRET"]
    running.sandbox.webhook(f"{running.stack.base_url}/api/pems/webhook/demo", secret, repeat=0.5)
    where = f"/api/pfa/org-rio/records/{running.records.pop()['pfaId']}"
    for number in range(3):
        running.sandbox.edit(where.rpartition("/")[2], {"model": f"SAID-{number}"})
        wait_until(lambda: running.planner.call("GET", where)["fields"]["model"] == f"SAID-{number}", 15)  # noqa: B023
