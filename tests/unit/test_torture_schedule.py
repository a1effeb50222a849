"""The schedule of `make torture`: the same from the same seed, every kind in its turn, nothing left broken."""

from __future__ import annotations

import pytest

from deploy.sandbox.faultplan import ITEM_KINDS, REQUEST_KINDS
from tests.torture.schedule import ANSWERS, BLOWS, LASTING, OUTAGE_SECONDS, SHIFTED, schedule
from tests.torture.series import seeds_of
from tests.torture.traffic import over_limit

ALL_KINDS = {*ANSWERS, *BLOWS, "clock_shift"}


def test_the_same_seed_is_the_same_schedule():
    assert schedule(7, 1.0) == schedule(7, 1.0)
    assert schedule(7, 1.0) != schedule(8, 1.0)


@pytest.mark.parametrize("seed", range(1, 41))
def test_everything_is_undone_before_the_end_and_in_order(seed: int):
    for minutes in (0.5, 1.0, 3.0):
        plan = schedule(seed, minutes)
        assert all(0 <= fault.at <= fault.until <= minutes * 60 for fault in plan)
        assert plan == sorted(plan)
        assert all(fault.seconds > 0 for fault in plan if fault.kind in {*LASTING, "outage"})


@pytest.mark.parametrize("seed", range(1, 41))
def test_a_minute_has_many_kinds_and_three_have_all(seed: int):
    assert len({fault.kind for fault in schedule(seed, 1.0)}) >= 25
    assert {fault.kind for fault in schedule(seed, 3.0)} == ALL_KINDS


def test_forty_minutes_of_forty_seeds_have_all_kinds_at_all_targets():
    plans = [fault for seed in range(1, 41) for fault in schedule(seed, 1.0)]
    assert {fault.kind for fault in plans} == ALL_KINDS
    assert {(fault.kind, fault.target) for fault in plans} >= {(kind, at) for kind in BLOWS for at in BLOWS[kind]}


def test_an_outage_of_a_long_run_is_half_a_minute():
    assert {fault.seconds for fault in schedule(1, 3.0) if fault.kind == "outage"} == {OUTAGE_SECONDS}


def test_the_sandbox_knows_every_answer_at_every_operation_it_is_aimed_at():
    known = REQUEST_KINDS | ITEM_KINDS
    for kind, operations in ANSWERS.items():
        assert set(operations) - {"ANY"} <= known[kind], kind


def test_one_clock_is_off_by_an_hour_either_way():
    shifts = {fault.detail for seed in range(1, 10) for fault in schedule(seed, 1.0) if fault.kind == "clock_shift"}
    assert shifts == {-3600, 3600}
    assert {fault.target for fault in schedule(1, 1.0) if fault.kind == "clock_shift"} == {SHIFTED}


def test_the_limit_is_broken_by_what_no_delay_explains():
    spaced = [number * 0.102 for number in range(40)]
    assert not over_limit(spaced, 10)
    late = sorted([*spaced[:5], spaced[5] + 0.09, *spaced[6:]])
    assert not over_limit(late, 10)
    assert over_limit(sorted([*spaced, *(each + 0.05 for each in spaced[20:23])]), 10)


def test_seeds_are_named_as_ranges_and_one_by_one():
    assert seeds_of("1-3,7") == [1, 2, 3, 7]
