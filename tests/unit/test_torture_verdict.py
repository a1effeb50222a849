"""The judge of `make torture` finds what must not be, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.torture.ledger import Edit
from tests.torture.verdict import Findings, judge_edits, judge_inside, judge_sockets

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def edit(**more: Any) -> Edit:
    sent = Edit(
        id="m1", organization="org-rio", pfa_id="PFA-1", state="confirmed", dead_reason=None, how="answer",
        changes={"model": "A"}, author="rio-planner", finished_at=at(5), error="", may_still_land=False,
        attempts=[(at(1), "k1", 1)],
    )  # fmt: skip
    return replace(sent, **more)


def write(key: str | None = "k1", *, seconds: float = 2, source: str = "api") -> dict[str, Any]:
    changes = {"model": "A"}
    return {
        "pfaId": "PFA-1",
        "idempotencyKey": key,
        "at": at(seconds).isoformat(),
        "source": source,
        "changes": changes,
    }


def judged(row: Edit | None, *audit: dict[str, Any]) -> dict[str, int]:
    found = Findings()
    judge_edits(found, {"m1": "an edit"}, {row.id: row} if row else {}, audit)
    return {name: number for name, number in found.figures().items() if number}


def test_applied_once_and_confirmed_is_fine():
    assert judged(edit(), write()) == {}


@pytest.mark.parametrize("state", ["queued", "sending", "unknown", "conflicted"])
def test_an_edit_that_is_still_on_its_way_is_lost(state: str):
    assert judged(edit(state=state, how="", finished_at=None)) == {"lost": 1}


def test_an_accepted_edit_that_is_not_there_is_lost():
    assert judged(None) == {"lost": 1}


def test_a_dead_letter_needs_its_reason():
    assert judged(edit(state="dead", how="", dead_reason="rejected")) == {}
    assert judged(edit(state="dead", how="")) == {"lost": 1}


def test_the_same_key_applied_twice_is_found_whatever_pems_thinks_of_keys():
    assert judged(edit(), write(), write(seconds=3)) == {"appliedTwice": 1}


def test_two_keys_of_one_edit_are_two_writes_unless_a_person_decided_in_between():
    row = edit(attempts=[(at(1), "k1", 1), (at(4), "k2", 2)])
    assert judged(row, write("k1"), write("k2", seconds=5)) == {"appliedTwice": 1}
    assert judged(replace(row, decisions=[at(3)]), write("k1"), write("k2", seconds=5)) == {}


def test_a_write_without_an_attempt_of_ours_is_found():
    assert judged(edit(), write(), write("stranger")) == {"appliedTwice": 1}


def test_confirmed_by_an_answer_needs_a_write():
    assert judged(edit()) == {"lost": 1}
    assert judged(edit(how="converged")) == {}


def test_proof_may_rest_on_somebody_elses_equal_change():
    assert judged(edit(how="proof")) == {"lost": 1}
    assert judged(edit(how="proof"), write(None, source="sandbox")) == {}


def test_what_was_folded_or_withdrawn_must_not_appear_in_pems():
    assert judged(edit(state="superseded", how=""), write()) == {"appliedTwice": 1}
    assert judged(edit(state="withdrawn", how=""), write(seconds=6)) == {"appliedTwice": 1}
    assert judged(edit(state="withdrawn", how=""), write(seconds=2)) == {}


def sockets(*kept: int) -> int:
    found, told = Findings(), [(seq, "SYNC_QUEUED", None) for seq in range(1, 6)]
    judge_sockets(found, told, [(seq, "SYNC_QUEUED", None) for seq in kept], after=2, who="org-rio")
    return found.figures()["socketGaps"]


def test_a_client_has_every_event_after_its_first_connection():
    assert sockets(3, 4, 5) == 0
    assert sockets(3, 5) == 1
    assert sockets() == 1
    assert sockets(3, 4, 5, 6) == 1


def test_what_the_system_finds_itself_counts():
    found = Findings()
    verify = {"ok": False, "checks": [{"id": "I13", "title": "equal", "ok": False, "found": ["PFA-1"]}]}
    judge_inside(found, {"broken": ["hash"], "verify": verify})
    assert (found.figures()["differences"], found.figures()["chainBroken"]) == (1, 1)
