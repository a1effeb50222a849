"""kill -9 of web at every boundary of a decision: resolve, take back, roll back, undo. The answer never reaches the browser;
the person asks again, and it was done once. On the other side PEMS stands as it was seen, or has moved on elsewhere."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import requests

from deploy.demo.planner import Planner
from pems_sync.crashpoints import RESOLVE, ROLLBACK
from tests.acceptance.fleet import Fleet, wait_until

pytestmark = pytest.mark.process

SIDES = ("as_seen", "moved_on")
WAYS_BACK = ROLLBACK[:4]


@dataclass
class Case:
    """`path`, `body`: what the person asks for. `again`: the answer to the second time."""

    pfa_id: str
    path: str
    body: dict[str, Any]
    seen_version: int = 0
    again: int = 0
    applied_before: int = 0


Cases = dict[tuple[str, str], Case]


def _signed_in(stage: Fleet, role: str) -> Planner:
    person = Planner(stage.stack.base_url, "org-rio", f"rio-{role}", stage.stack.options.demo_password)
    person.sign_in()
    return person


@pytest.fixture(scope="module")
def played(stage: Fleet) -> Cases:
    """Nothing is sent until all is decided, so that a second request meets the edit of the first, still waiting."""
    lead, admin = _signed_in(stage, "lead"), _signed_in(stage, "admin")
    cases = _conflicts(stage, lead) | _past_edits(stage)
    admin.call("POST", "/api/pems/organizations/org-rio/pause", json={"reason": "people decide first"})
    for (boundary, side), case in cases.items():
        case.applied_before = len(stage.applied(case.pfa_id))
        if side == "moved_on":
            stage.sandbox.edit(case.pfa_id, {"equipment": f"EQ-{boundary}"[:20]})
        if boundary in RESOLVE[2:]:
            _resolve(lead, case, "use_pems")
    for number, boundaries in enumerate((RESOLVE, ROLLBACK)):
        _ask_and_die(stage, lead, f"people-{number}", {each: cases[each] for each in product(boundaries, SIDES)})
    for case in cases.values():
        case.again = lead.http.post(stage.stack.base_url + case.path, json=case.body, timeout=30).status_code
    for boundary, side in product(RESOLVE[2:], SIDES):
        _resolve(lead, cases[boundary, side], "use_local")
    admin.call("POST", "/api/pems/organizations/org-rio/resume")
    return cases


def _conflicts(stage: Fleet, lead: Planner) -> Cases:
    """Edits that meet another value of the same field in PEMS."""
    made = {}
    for boundary, side in product(RESOLVE, SIDES):
        row = stage.records.pop()
        stage.sandbox.edit(row["pfaId"], {"model": "THEIRS"})
        made[boundary, side] = stage.edit("OURS", row)
    for modification_id, _ in made.values():
        stage.wait_for(modification_id, "conflict")
    path = "/api/pems/conflicts"
    open_ones = {each["pfaId"]: each for each in lead.pages(path, organizationId="org-rio", status="unresolved")}
    cases = {}
    for (boundary, side), (_, pfa_id) in made.items():
        undo = boundary in RESOLVE[2:]
        conflict = open_ones[pfa_id]
        body = {} if undo else {"resolution": "use_local", "seenPemsVersion": conflict["pemsVersion"]}
        case = Case(pfa_id, f"{path}/{conflict['id']}/{'undo' if undo else 'resolve'}", body, conflict["pemsVersion"])
        cases[boundary, side] = case
    return cases


def _resolve(lead: Planner, case: Case, resolution: str) -> None:
    body = {"resolution": resolution, "seenPemsVersion": case.seen_version}
    lead.call("POST", case.path.replace("undo", "resolve"), json=body)


def _past_edits(stage: Fleet) -> Cases:
    """Edits that were delivered, to be rolled back or undone."""
    rows = {case: stage.records.pop() for case in product(ROLLBACK, SIDES)}
    made = {case: stage.edit("REGRETTED", row) for case, row in rows.items()}
    cases = {}
    for (boundary, side), (modification_id, pfa_id) in made.items():
        shown = stage.wait_for(modification_id, "synced")
        if boundary in WAYS_BACK:
            path = f"/api/pfa/org-rio/records/{pfa_id}/rollback"
            body = {"version": rows[boundary, side]["version"], "reason": "a test"}
        else:
            path, body = f"/api/pems/sync-logs/{shown['jobId']}/undo", {"reason": "a test"}
        cases[boundary, side] = Case(pfa_id, path, body)
    return cases


def _ask_and_die(stage: Fleet, lead: Planner, name: str, cases: Cases) -> None:
    """All at once, and not one of them gets an answer."""
    armed = stage.meet(name, [(boundary, case.pfa_id) for (boundary, _), case in cases.items()])
    answers: list[str] = []

    def ask(case: Case) -> None:
        try:
            reply = requests.post(
                stage.stack.base_url + case.path, json=case.body, headers=dict(lead.http.headers), timeout=30
            )
            answers.append(f"{case.path}: {reply.status_code} {reply.text}")
        except requests.ConnectionError:
            pass  # killed with the request in hand

    threads = [threading.Thread(target=ask, args=(case,)) for case in cases.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not answers
    stage.wait_until_dead(armed, 1)
    wait_until(lambda: _is_ready(stage), 30)


def _is_ready(stage: Fleet) -> bool:
    try:
        return requests.get(stage.stack.base_url + "/api/health/ready", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("boundary", [*RESOLVE, *ROLLBACK])
def test_a_decision_is_carried_out_once_killed_at(stage: Fleet, played: Cases, boundary: str, side: str) -> None:
    case = played[boundary, side]
    wanted = "OURS" if boundary in RESOLVE else None
    wait_until(lambda: not _open_edits(stage, case.pfa_id), 60, lambda: _open_edits(stage, case.pfa_id))
    assert len(stage.applied(case.pfa_id)) == case.applied_before + 1, case
    shown = stage.sandbox.record(case.pfa_id, "RIO")["model"]
    assert shown == wanted if wanted else shown != "REGRETTED"
    stage.demand_as_in_pems(case.pfa_id)
    assert case.again in _expected(boundary), case


def _open_edits(stage: Fleet, pfa_id: str) -> list[tuple[Any, ...]]:
    return stage.sql(
        "SELECT id, state, waits_for FROM pems_sync_modification WHERE pfa_id = %s "
        "AND state NOT IN ('confirmed', 'withdrawn', 'superseded')", pfa_id,
    )  # fmt: skip


def _expected(boundary: str) -> tuple[int, ...]:
    """Of the second request: done now, or refused because it was done. A rollback asked for twice may wait twice: the second
    finds its values in PEMS, and nothing is written."""
    if boundary.startswith("after_") and boundary not in ("after_pems_read", "after_rollback_commit"):
        return (409,)
    return (200, 202)
