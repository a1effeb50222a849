"""kill -9 at every boundary between PEMS and here, while an edit of another record is under way whose reply was lost: the
organization is pulled again, the cursor never runs ahead, no row is missing and none is stored twice (N1, N2, S9)."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from uuid import uuid4

import pytest
import requests

from deploy.demo.edits import usable
from deploy.demo.planner import Planner
from deploy.sandbox.webhook import signature
from pems_sync.crashpoints import PULL, WEBHOOK
from tests.acceptance.fleet import Fleet, wait_until

pytestmark = pytest.mark.process

BY_ROWS = ("before_apply_commit", "after_apply_commit")
ROUNDS = (
    {"org-holng": "after_page", "org-rio": "before_page", "org-portarthur": "before_apply_commit"},
    {"org-rio": "after_apply_commit", "org-portarthur": "after_cursor"},
    {"org-rio": "before_run_end", "org-portarthur": "after_run_end"},
)
"""Pulls of different organizations die together. The one of HOLNG is left alone, to be pulled again when its lease has ended;
the leases of the others are ended by the test."""
CODES = {"org-rio": "RIO", "org-portarthur": "PORTARTHUR", "org-holng": "HOLNG"}


@dataclass
class Case:
    """`changed`: the record that somebody changed in PEMS; `edit`: ours, under way meanwhile, and its record."""

    code: str
    changed: str
    edit: tuple[str, str]
    planner: Planner
    cursor_moved: bool = False
    killed_at: float = 0.0


@dataclass
class Tenant:
    planner: Planner
    records: list[dict[str, object]]


@pytest.fixture(scope="module")
def tenants(stage: Fleet) -> dict[str, Tenant]:
    found = {}
    for slug, code in CODES.items():
        who = Planner(stage.stack.base_url, slug, f"{code.lower()}-planner", stage.stack.options.demo_password)
        who.sign_in()
        rows = stage.records if slug == "org-rio" else [row for row in who.records() if usable(row)]
        found[slug] = Tenant(who, rows)
    return found


@pytest.fixture(scope="module")
def played(stage: Fleet, tenants: dict[str, Tenant]) -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for number, seats in enumerate(ROUNDS):
        _calm(stage, seats, cases)
        mine = {boundary: _prepared(stage, tenants[slug], slug) for slug, boundary in seats.items()}
        before = {boundary: _cursor(stage, case) for boundary, case in mine.items()}
        taken = [(each, case.changed if each in BY_ROWS else case.code) for each, case in mine.items()]
        armed = stage.meet(f"pull-{number}", taken)
        for slug in seats:
            tenants[slug].planner.call("POST", "/api/pems/pull", json={"organizationId": slug})
        stage.wait_until_dead(armed)
        for slug, boundary in seats.items():
            mine[boundary].cursor_moved = _cursor(stage, mine[boundary]) != before[boundary]
            mine[boundary].killed_at = time.monotonic()
            if slug != "org-holng":
                _end_lease(stage, CODES[slug])
        cases |= mine
    return cases


def _calm(stage: Fleet, seats: dict[str, str], cases: dict[str, Case]) -> None:
    """The pulls that follow the round before are over, and none begins by itself: it would take in what is prepared next."""
    codes = [CODES[slug] for slug in seats if slug != "org-holng" or not cases]
    later = (
        "UPDATE pems_sync_inboundstate s SET pull_due_at = now() + interval '10 minutes' FROM pems_sync_organization o "
        "WHERE o.id = s.organization_id AND o.pulled_at IS NOT NULL AND s.lease_until IS NULL AND o.code = ANY(%s) RETURNING s.id"
    )
    wait_until(lambda: len(stage.sql(later, codes)) == len(codes), 60)


def _prepared(stage: Fleet, tenant: Tenant, slug: str) -> Case:
    changed, ours = tenant.records.pop(), tenant.records.pop()
    stage.sandbox.edit(str(changed["pfaId"]), {"model": "CHANGED-IN-PEMS"})
    stage.sandbox.script("lost_reply", pfaId=ours["pfaId"], operation="PUT")
    edit = stage.edit("UNDER-WAY", ours, planner=tenant.planner)
    wait_until(lambda: bool(stage.applied(edit[1])), 30)
    return Case(CODES[slug], str(changed["pfaId"]), edit, tenant.planner)


def _cursor(stage: Fleet, case: Case) -> object:
    return stage.sql(
        "SELECT seen_until FROM pems_sync_inboundstate s JOIN pems_sync_organization o ON o.id = s.organization_id "
        "WHERE o.code = %s", case.code,
    )  # fmt: skip


def _end_lease(stage: Fleet, code: str) -> None:
    stage.sql("UPDATE pems_sync_organization SET pulled_at = NULL WHERE code = %s", code)
    stage.sql(
        "UPDATE pems_sync_inboundstate SET lease_until = NULL, pull_due_at = now() "
        "WHERE organization_id = (SELECT id FROM pems_sync_organization WHERE code = %s)", code,
    )  # fmt: skip


@pytest.mark.parametrize("boundary", PULL)
def test_a_pull_misses_nothing_and_stores_nothing_twice_killed_at(
    stage: Fleet, played: dict[str, Case], boundary: str
) -> None:
    case = played[boundary]
    assert case.cursor_moved is (boundary == "after_run_end")
    left = max(case.killed_at + 60 - time.monotonic(), 1)
    wait_until(lambda: _model(stage, case.changed) == "CHANGED-IN-PEMS", left)
    stage.wait_for(case.edit[0], "synced", planner=case.planner)
    assert len(stage.applied(case.edit[1])) == 1
    stage.demand_as_in_pems(case.changed, case.code)
    stage.demand_as_in_pems(case.edit[1], case.code)


def _model(stage: Fleet, pfa_id: str) -> object:
    return stage.sql("SELECT fields->>'model' FROM pems_sync_record WHERE pfa_id = %s", pfa_id)[0][0]


@pytest.fixture(scope="module")
def named(stage: Fleet, tenants: dict[str, Tenant], played: dict[str, Case]) -> dict[str, tuple[str, str]]:
    """By boundary: code and PFA id of a record that PEMS named. What was not taken in is said again, as PEMS does."""
    where = dict(zip(WEBHOOK, ("org-rio", "org-rio", "org-holng", "org-portarthur", "org-rio"), strict=True))
    wait_until(lambda: _model(stage, played["after_page"].changed) == "CHANGED-IN-PEMS", 60)
    cases = {each: (CODES[slug], str(tenants[slug].records.pop()["pfaId"])) for each, slug in where.items()}
    for code, pfa_id in cases.values():
        stage.sandbox.edit(pfa_id, {"model": f"NAMED-IN-{code}"})
    for boundary in WEBHOOK[:2]:
        armed, event = stage.meet(boundary + "-meeting", [(boundary, cases[boundary][1])]), uuid4().hex
        with pytest.raises(requests.ConnectionError):
            _say(stage, *cases[boundary], event)
        stage.wait_until_dead(armed)
        wait_until(lambda: _said_again(stage, *cases[boundary], event), 30)  # noqa: B023
    armed = stage.meet("named", [(each, cases[each][1]) for each in WEBHOOK[2:]])
    for boundary in WEBHOOK[2:]:
        _say(stage, *cases[boundary], uuid4().hex)
    stage.wait_until_dead(armed)
    for code in CODES.values():
        _end_lease(stage, code)
    return cases


def _say(stage: Fleet, code: str, pfa_id: str, event: str) -> int:
    body = json.dumps({"id": event, "event": "pfa.changed", "organizationCode": code, "pfaIds": [pfa_id]}).encode()
    secret = stage.stack.environment("manage")["PEMS_WEBHOOK_SECRET"]
    headers = {"Content-Type": "application/json", **signature(secret, body, time.time())}
    address = f"{stage.stack.base_url}/api/pems/webhook/demo"
    return requests.post(address, data=body, headers=headers, timeout=10).status_code


def _said_again(stage: Fleet, code: str, pfa_id: str, event: str) -> bool:
    try:
        return _say(stage, code, pfa_id, event) in (200, 202)
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize("boundary", WEBHOOK)
def test_a_named_record_is_read_killed_at(stage: Fleet, named: dict[str, tuple[str, str]], boundary: str) -> None:
    code, pfa_id = named[boundary]
    wait_until(lambda: _model(stage, pfa_id) == f"NAMED-IN-{code}", 60)
    names = "SELECT 1 FROM pems_sync_namedread WHERE pfa_id = %s"
    wait_until(lambda: not stage.sql(names, pfa_id), 60, lambda: "it is still to be read")
    stage.demand_as_in_pems(pfa_id, code)
