"""Workers that die while PEMS has the request, poisonous edits, an orderly end; the effects are counted by PEMS (D1, D3, D7,
D15). The boundaries of our own code are in crashes/."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import pytest

from tests.acceptance.fleet import Fleet, wait_until

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("fault_free")]


def test_a_worker_killed_after_its_bytes_left_loses_nothing(running: Fleet) -> None:
    """PEMS takes the request in, works on it, and applies it when the sender is long dead."""
    running.sandbox.settings(latency_ms=1500)
    modification_id, pfa_id = running.edit("BYTES-SENT")
    wait_until(lambda: started(running, modification_id), 20)
    time.sleep(0.4)
    assert not running.applied(pfa_id), "too late to test this: PEMS has applied it already"
    kill_9(running.stack.pids()["worker-write"])
    running.sandbox.settings(latency_ms=0)
    running.wait_for(modification_id, "synced")
    time.sleep(1.5)
    assert len(running.applied(pfa_id)) == 1


def test_a_worker_killed_between_apply_and_reply_loses_nothing(running: Fleet) -> None:
    pfa_id = running.records[-1]["pfaId"]
    running.sandbox.script("slow", pfaId=pfa_id, operation="PUT", seconds=1.5)
    modification_id, _ = running.edit("APPLIED")
    wait_until(lambda: bool(running.applied(pfa_id)), 20)
    kill_9(running.stack.pids()["worker-write"])
    running.wait_for(modification_id, "synced")
    assert len(running.applied(pfa_id)) == 1


def started(running: Fleet, modification_id: str) -> bool:
    with psycopg.connect(running.stack.services.database_url) as database:
        found = database.execute("SELECT 1 FROM pems_sync_attempt WHERE modification_id = %s", [modification_id])
        return found.fetchone() is not None


def kill_9(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_an_edit_that_kills_workers_is_quarantined_and_nobody_else_waits(running: Fleet) -> None:
    """D7: after two crashes it is a dead letter; only its own record's lane is parked."""
    armed = running.crash_points / "after_start"
    armed.write_text(running.records[-1]["pfaId"])
    modification_id, _ = running.edit("POISON")
    others = [running.edit(f"FINE-{number}") for number in range(5)]
    for other, pfa_id in others:
        running.wait_for(other, "synced")
        assert len(running.applied(pfa_id)) == 1
    shown = running.wait_for(modification_id, "failed", seconds=90)
    assert "poison" in str(shown).lower()
    armed.unlink()


def test_sigterm_drains(running: Fleet) -> None:
    """D15: a worker told to stop finishes what it has started; nothing waits for a lease."""
    running.sandbox.settings(latency_ms=600)
    modification_id, pfa_id = running.edit("DRAINED")
    wait_until(lambda: started(running, modification_id), 20)
    begun = time.monotonic()
    for pid in running.stack.pids()["worker-write"]:
        os.kill(pid, signal.SIGTERM)
    shown = running.wait_for(modification_id, "synced", seconds=10)
    assert time.monotonic() - begun < 5, "it waited for a lease"
    assert "verifying" not in str(shown["timeline"]).lower()
    assert len(running.applied(pfa_id)) == 1
