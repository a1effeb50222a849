import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from deploy.sandbox.clock import Clock
from deploy.sandbox.seed import generate
from deploy.sandbox.statelog import StateLog
from deploy.sandbox.store import Store
from deploy.sandbox.writes import Applied, BrokenRule, Effects, Invalid, Missing, Stale, Write

RECORDS = list(generate(20, 1))
FIRST = RECORDS[0]


class StoppedClock(Clock):
    def now(self):
        return 1_800_000_000.25


def store(path=None):
    return Store(RECORDS, StoppedClock(), StateLog(path))


def write(record=FIRST, changes=None, key=None, version=None):
    wanted = {"areaSilo": "A"} if changes is None else changes
    version = record["version"] if version is None else version
    return Write("UPDATE", record["pfaId"], record["organizationCode"], wanted, version, "j.doe", None, key)


def test_each_refusal_has_its_own_outcome_and_order():
    pems = store()
    assert isinstance(pems.write(Write("UPDATE", "PFA-1", "RIO", {"no": 1}, 99, "j")), Missing)
    assert isinstance(pems.write(write(changes={"no": 1}, version=99)), Invalid)
    assert isinstance(pems.write(write(changes={"monthlyRate": -1}, version=99)), Stale)
    assert isinstance(pems.write(write(changes={"monthlyRate": -1})), BrokenRule)
    assert pems.records[FIRST["pfaId"]] is FIRST


def test_updates_are_ordered_even_when_the_clock_stands_still():
    pems = store()
    for record in RECORDS:
        assert isinstance(pems.write(write(record)), Applied)
    times = [pems.records[record["pfaId"]]["updatedAt"] for record in RECORDS]
    assert all(earlier < later for earlier, later in pairwise(times))
    assert pems.server_time() >= times[-1]


def test_a_rule_broken_before_does_not_stop_a_change_elsewhere():
    pems = store()
    broken = pems.edit(FIRST["pfaId"], {"forecastEnd": "2000-01-01"}, "pems", 1)
    assert isinstance(pems.write(write(broken)), Applied)
    assert isinstance(pems.write(write(pems.records[FIRST["pfaId"]], {"forecastStart": "2026-01-01"})), BrokenRule)


def test_a_key_repeats_its_outcome_unless_keys_are_ignored():
    pems = store()
    first = pems.write(write(key="k"))
    assert pems.write(write(key="k")) == first
    assert isinstance(pems.write(write(key="k"), honour_key=False), Stale)
    assert pems.audit.applied_per_key == {"k": 1}


def test_a_missing_record_is_not_remembered_for_its_key():
    pems = store()
    pems.write(Write("UPDATE", "PFA-1", "RIO", {"areaSilo": "A"}, 1, "j", None, "k"))
    assert isinstance(pems.write(write(key="k")), Applied)


def test_the_hint_names_only_what_both_sides_changed():
    pems = store()
    pems.edit(FIRST["pfaId"], {"model": "M", "areaSilo": "B"}, "pems", 1)
    outcome = pems.write(write(changes={"areaSilo": "A", "contract": "C"}))
    assert outcome == Stale(FIRST["pfaId"], FIRST["version"] + 1, FIRST["version"], ["areaSilo"])


def test_adjusted_values_and_extra_versions_are_audited():
    pems = store()
    outcome = pems.write(write(changes={"monthlyRate": 101.0}), Effects(extra_versions=2, adjusts=True))
    assert isinstance(outcome, Applied)
    assert (outcome.record["version"], outcome.record["monthlyRate"]) == (FIRST["version"] + 3, 110.0)


@given(st.integers())
def test_the_list_in_pages_is_the_list_at_once(seed):
    pems, dice = store(), random.Random(seed)
    for record in dice.sample(RECORDS, dice.randrange(20)):
        pems.write(write(record))
    since = dice.choice(["", *(record["updatedAt"] for record in pems.records.values())])
    whole, total, _ = pems.changed_since("RIO", since, None, 1000)
    pages, after, has_more = [], None, True
    while has_more:
        page, _, has_more = pems.changed_since("RIO", since, after, 3)
        pages += page
        after = (page[-1]["updatedAt"], page[-1]["pfaId"]) if page else after
    assert pages == whole
    assert len(whole) == total
    assert all(record["updatedAt"] >= since for record in whole)
