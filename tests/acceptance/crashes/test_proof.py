"""kill -9 at every boundary of a proof, whatever had become of the write: landed, not landed, or overtaken by a PEMS user
while nobody looked (D1)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from pems_sync.crashpoints import PROOF
from tests.acceptance.fleet import Fleet, wait_until

pytestmark = pytest.mark.process

SIDES = {"landed": "lost_reply", "not_landed": "reset_before", "overtaken": "lost_reply"}


@dataclass
class Case:
    modification_id: str
    pfa_id: str
    killed_at: float = field(default_factory=time.monotonic)


Cases = dict[tuple[str, str], Case]


@pytest.fixture(scope="module")
def played(stage: Fleet) -> Cases:
    """Side by side, because as many proofs are under way at once as there are boundaries."""
    cases: Cases = {}
    for side, fault in SIDES.items():
        rows = {boundary: stage.records.pop() for boundary in PROOF}
        lines = [{"kind": fault, "pfaId": row["pfaId"], "operation": "PUT"} for row in rows.values()]
        stage.sandbox.faults(script=lines)
        armed = stage.meet(f"proof-{side}", [(boundary, row["pfaId"]) for boundary, row in rows.items()])
        for boundary, row in rows.items():
            cases[boundary, side] = Case(*stage.edit(f"{side}-{boundary}", row))
            if side == "overtaken":
                _overtake(stage, row["pfaId"])
        stage.wait_until_dead(armed)
        for boundary in PROOF:
            cases[boundary, side].killed_at = time.monotonic()
    return cases


def _overtake(stage: Fleet, pfa_id: str) -> None:
    """Ours landed, its reply was lost, and a person in PEMS changed the same field before anybody looked."""
    wait_until(lambda: bool(stage.applied(pfa_id)), 20)
    stage.sandbox.edit(pfa_id, {"model": "BY-A-PERSON"})


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("boundary", PROOF)
def test_an_outcome_is_proven_killed_at(stage: Fleet, played: Cases, boundary: str, side: str) -> None:
    case = played[boundary, side]
    expected = "conflict" if side == "overtaken" else "synced"
    stage.wait_for(case.modification_id, expected, seconds=max(case.killed_at + 60 - time.monotonic(), 1))
    assert len(stage.applied(case.pfa_id)) == 1
    stage.demand_as_in_pems(case.pfa_id)
    if side == "overtaken":
        assert stage.sandbox.record(case.pfa_id, "RIO")["model"] == "BY-A-PERSON"
