"""Outages, refused credentials, poison, shutdown and fairness with hundreds of edits under way (D7, D9, D10, D12, D15).

Single edits are in test_outages.py and test_crashes.py; the full size is in tests/bench (`outage`, `fairness`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.edits import usable
from deploy.demo.planner import Planner
from tests.acceptance.fleet import Fleet, fleet, wait_until
from tests.bench.backlog import queue_edits
from tests.bench.watching import Watch, set_batch_size

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("fault_free")]

LIMIT = 30


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A PEMS that allows more requests than usual, so that hundreds of edits take seconds."""
    place = tmp_path_factory.mktemp("load")
    with fleet(place, records=4_000, knobs={"PEMS_API_RATE_LIMIT": str(LIMIT)}) as each:
        yield each


def commit(running: Fleet, tag: str, count: int, *, batch: int) -> Watch:
    """That many edits of as many records, in batches of at most `batch`."""
    set_batch_size(running.stack, batch)
    records = [running.records.pop() for _ in range(count)]
    items = [{"pfaId": each["pfaId"], "changes": {"model": tag}, "baseVersion": each["version"]} for each in records]
    saved = [item["modificationId"] for item in running.planner.save_drafts(items)]
    body = {"organizationId": "org-rio", "modificationIds": saved}
    assert running.planner.call("POST", "/api/pems/write-sync", json=body)["queuedCount"] == count
    return Watch(running.stack, running.sandbox, tag)


def all_confirmed(watch: Watch, count: int, seconds: float = 60) -> None:
    """Every edit, each written once, none ever dead."""
    watch.wait_for(lambda states: states.get("confirmed", 0) == count, seconds)
    assert watch.written_once()
    assert watch.ever("dead") == 0


@pytest.mark.parametrize(("mode", "count", "batch", "seconds"), [("cut", 100, 10, 4.0), ("503", 200, 1, 6.0)])
def test_an_outage_with_hundreds_of_edits_waiting_burns_nothing(
    running: Fleet, mode: str, count: int, batch: int, seconds: float
) -> None:
    """`cut` first: what was answered in the ten seconds before speaks against opening, and a lost write that no breaker saw
    burns its attempt."""
    opened = openings(running)
    running.sandbox.reset_stats()
    running.sandbox.faults(outage={"from": 0, "to": seconds, "mode": mode})
    watch = commit(running, f"DOWN-{mode}", count, batch=batch)
    all_confirmed(watch, count)
    assert watch.burnt() == 0
    assert openings(running) > opened
    assert running.sandbox.stats()["violations"] == 0


def openings(running: Fleet) -> int:
    found = Watch(running.stack, running.sandbox, "").rows(
        "SELECT count(*) FROM pems_sync_journalentry WHERE kind = 'breaker_opened'"
    )
    return int(found[0][0])


def test_refused_credentials_in_the_middle_of_500_edits_burn_none(running: Fleet) -> None:
    running.sandbox.settings(latency_ms=50)
    watch = commit(running, "LOCKED", 500, batch=8)
    wait_until(lambda: watch.states().get("confirmed", 0) > 20, 30, watch.states)
    running.sandbox.script("status_401", operation="ANY", times=None)
    wait_until(lambda: bool(running.planner.status()["paused"]), 20, running.planner.status)
    reason = watch.rows("SELECT paused_reason FROM pems_sync_connection")[0][0]
    assert "credentials" in reason.lower(), reason
    assert watch.states().get("queued", 0) > 0, "too late to test this: nothing was waiting any more"
    running.sandbox.clear_faults()
    admin = Planner(running.stack.base_url, "org-rio", "rio-admin", running.stack.options.demo_password)
    admin.sign_in()
    admin.call("POST", "/api/pems/organizations/org-rio/resume")
    all_confirmed(watch, 500)
    assert watch.burnt() == 0


def test_poison_among_200_parks_its_own_lane_only(running: Fleet) -> None:
    armed = running.crash_points / "after_start"
    armed.write_text(running.records[-1]["pfaId"])
    watch = commit(running, "POISONED", 200, batch=100)
    watch.wait_for(lambda states: states == {"confirmed": 199, "dead": 1}, 90)
    armed.unlink()
    assert watch.rows("SELECT dead_reason FROM pems_sync_modification WHERE state = 'dead'") == [("poison",)]
    assert watch.written_once()


def test_workers_told_to_stop_under_load_leave_nothing_in_doubt(running: Fleet) -> None:
    running.sandbox.settings(latency_ms=400)
    watch = commit(running, "DRAINED", 150, batch=10)
    wait_until(
        lambda: watch.states().get("sending", 0) > 0 and watch.states().get("confirmed", 0) > 0, 20, watch.states
    )
    pids = running.stack.pids()["worker-write"]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not any(Path(f"/proc/{pid}/fd").exists() for pid in pids), 10, lambda: "a worker does not end")
    all_confirmed(watch, 150)
    assert watch.ever("unknown") == 0
    assert "lease" not in str(watch.rows(
        "SELECT DISTINCT reason FROM pems_sync_journalentry WHERE kind = 'delivery_returned' AND modification_id IN "
        "(SELECT id FROM pems_sync_modification WHERE changes ->> 'model' = 'DRAINED')"
    )).lower()  # fmt: skip


def test_a_quiet_organization_does_not_wait_behind_20_000_edits_of_another(running: Fleet) -> None:
    """By PEMS's own order of arrival. Last in this module: most of the 20,000 are never sent."""
    set_batch_size(running.stack, 1)
    queue_edits(
        running.stack.services.database_url, organization="org-holng", planner="holng-planner", count=20_000, tag="LOUD"
    )
    loud = Watch(running.stack, running.sandbox, "LOUD")
    wait_until(lambda: len(loud.writes()) >= 10, 30, loud.states)
    quiet = Planner(running.stack.base_url, "org-portarthur", "portarthur-planner", running.stack.options.demo_password)
    quiet.sign_in()
    record = next(record for record in quiet.records() if usable(record))
    body = {"changes": {"model": "QUIET"}, "baseVersion": record["version"]}
    quiet.call("PUT", f"/api/pfa/org-portarthur/drafts/{record['pfaId']}", json=body)
    quiet.write_sync()
    before = running.sandbox.audit()[-1]["seq"]
    mine = Watch(running.stack, running.sandbox, "QUIET")
    mine.wait_for(lambda states: states.get("confirmed", 0) == 1, 30)
    assert mine.writes()[0]["seq"] - before <= 2 * LIMIT, "more than two seconds' worth of requests went first"
    assert loud.states()["queued"] > 10_000, "the queue was not long enough to be in the way"
