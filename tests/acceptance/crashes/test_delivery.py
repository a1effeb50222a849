"""kill -9 at every boundary of a delivery, for a first try and for a resend after a try whose outcome was unknown: that one
never arrived, or arrives late, when its sender is dead (D1, D3). The effects are counted by PEMS."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import product

import pytest
import requests

from pems_sync.crashpoints import DELIVERY
from tests.acceptance.fleet import Fleet, wait_until

pytestmark = pytest.mark.process

SIDES = ("first_try", "never_arrived", "arrives_late")
WITHOUT_IDS = ("before_claim", "task_received")
TOGETHER = (
    ("after_claim",),
    ("after_reserve", "after_start"),
    ("after_applied", "after_reply"),
    ("before_settle_commit", "after_settle_commit"),
)
"""Boundaries whose records fit into the eight children of two write workers; `after_claim` is passed by the pump."""


@dataclass
class Case:
    modification_id: str
    pfa_id: str
    killed_at: float = 0.0


Cases = dict[tuple[str, str], Case]


@pytest.fixture(scope="module")
def played(stage: Fleet) -> Cases:
    """All acts. What each came to is for the tests."""
    cases = _tried_once(stage)
    for boundary in WITHOUT_IDS:
        armed = stage.crash_points / boundary
        armed.touch()
        _act(stage, cases, (boundary,))
        stage.wait_until_dead(armed)
        _afterwards(stage, cases, (boundary,))
    for number, boundaries in enumerate(TOGETHER):
        first = {boundary: stage.records.pop() for boundary in boundaries}
        seats = [(boundary, cases[boundary, side].pfa_id) for boundary in boundaries for side in SIDES[1:]]
        armed = stage.meet(f"delivery-{number}", [*seats, *((each, row["pfaId"]) for each, row in first.items())])
        for boundary in boundaries:
            cases[boundary, SIDES[0]] = Case(*stage.edit(f"AT-{boundary}", first[boundary]))
        _release(stage, [cases[boundary, side] for boundary in boundaries for side in SIDES[1:]])
        stage.wait_until_dead(armed)
        _afterwards(stage, cases, boundaries)
    return cases


def _tried_once(stage: Fleet) -> Cases:
    """Edits whose first request PEMS never got: proven, queued to be sent again as they are, and held there."""
    wanted = {case: stage.records.pop() for case in product(DELIVERY, SIDES[1:])}
    lines = [{"kind": "reset_before", "pfaId": row["pfaId"], "operation": "PUT"} for row in wanted.values()]
    stage.sandbox.faults(script=lines)
    cases = {case: Case(*stage.edit(f"AGAIN-{case[0]}", row)) for case, row in wanted.items()}
    ids = [each.modification_id for each in cases.values()]
    hold = (
        "UPDATE pems_sync_modification SET not_before = now() + interval '1 hour' "
        "WHERE id = ANY(%s::uuid[]) AND state = 'queued' AND exposed RETURNING id"
    )
    wait_until(lambda: len(stage.sql(hold, ids)) == len(ids), 60)
    stage.sandbox.clear_faults()
    return cases


def _release(stage: Fleet, cases: list[Case]) -> None:
    ids = [each.modification_id for each in cases]
    stage.sql("UPDATE pems_sync_modification SET not_before = NULL WHERE id = ANY(%s::uuid[])", ids)


def _act(stage: Fleet, cases: Cases, boundaries: tuple[str, ...]) -> None:
    _release(stage, [cases[boundary, side] for boundary in boundaries for side in SIDES[1:]])
    for boundary in boundaries:
        cases[boundary, SIDES[0]] = Case(*stage.edit(f"AT-{boundary}"))


def _afterwards(stage: Fleet, cases: Cases, boundaries: tuple[str, ...]) -> None:
    """The sender is dead, and now its first request arrives."""
    for boundary in boundaries:
        _arrive(stage, cases[boundary, "arrives_late"])
        for side in SIDES:
            cases[boundary, side].killed_at = time.monotonic()


def _arrive(stage: Fleet, case: Case) -> None:
    """The very request of the first try, byte for byte what PEMS was sent then."""
    [(key, version, sent)] = stage.sql(
        "SELECT idempotency_key, version_sent, request FROM pems_sync_attempt "
        "WHERE modification_id = %s ORDER BY epoch LIMIT 1", case.modification_id,
    )  # fmt: skip
    body = {
        "pfaId": case.pfa_id, "organizationCode": "RIO", "changes": sent["changes"], "version": version,
        "modifiedBy": sent["modifiedBy"], "changeReason": "a test",
    }  # fmt: skip
    headers = {**stage.sandbox.headers("RIO"), "Idempotency-Key": str(key)}
    requests.put(f"{stage.sandbox.url}/api/pems/pfa/{case.pfa_id}", json=body, headers=headers, timeout=5)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("boundary", DELIVERY)
def test_an_edit_is_applied_once_killed_at(stage: Fleet, played: Cases, boundary: str, side: str) -> None:
    case = played[boundary, side]
    left = case.killed_at + 60 - time.monotonic()
    stage.wait_for(case.modification_id, "synced", seconds=max(left, 1))
    assert len(stage.applied(case.pfa_id)) == 1
    stage.demand_as_in_pems(case.pfa_id)
