"""What a policy may settle, and what always goes to a person."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pems_sync import validation
from pems_sync.drift import ConflictKind, Overlap, base_for, compare
from pems_sync.fields import FIELDS, UNITS, unit_of
from pems_sync.models.policy import Rule as StoredRule
from pems_sync.policies import RULED, Policies, Rule, given_up, rules_for, settle
from tests.cast import plausible
from tests.unit.three_sides import three_sides

EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def settled(changes, theirs, rules, *, stored=None, threshold=None, ours_at=EARLY, theirs_at=LATE):
    """What a policy makes of it, and that there was something to settle."""
    stored = stored or plausible()
    base, now = base_for(changes, stored), {**stored, **theirs}
    found = compare(base=base, changes=changes, theirs=now, delete=False)
    assert isinstance(found, Overlap)
    assert found.kind is ConflictKind.EDIT_EDIT
    return settle(
        Policies({name: Rule(rule) for name, rule in rules.items()}, threshold),
        base=base, changes=changes, theirs=now, clashing=found.fields, ours_at=ours_at, theirs_at=theirs_at,
    )  # fmt: skip


def test_the_stored_words_are_those_of_the_decision():
    assert [rule.value for rule in StoredRule] == [rule.value for rule in Rule]


def test_nothing_is_settled_without_a_rule():
    assert settled({"model": "A"}, {"model": "B"}, {}) is None
    assert settled({"model": "A"}, {"model": "B"}, {"model": "ask"}) is None
    assert settled({"model": "A"}, {"model": "B"}, {"areaSilo": "pems_wins"}) is None


@pytest.mark.parametrize(("rule", "stands"), [("pems_wins", "B"), ("local_wins", "A")])
def test_one_side_wins(rule, stands):
    assert settled({"model": "A"}, {"model": "B"}, {"model": rule}) == {"model": stands}


@pytest.mark.parametrize(
    ("ours_at", "theirs_at", "stands"),
    [(EARLY, LATE, "B"), (LATE, EARLY, "A"), (EARLY, EARLY, None), (None, LATE, None), (EARLY, None, None)],
)
def test_the_newest_wins_and_an_unknown_time_asks(ours_at, theirs_at, stands):
    found = settled({"model": "A"}, {"model": "B"}, {"model": "newest"}, ours_at=ours_at, theirs_at=theirs_at)
    assert found == ({"model": stands} if stands else None)


def test_the_larger_and_the_smaller_amount_are_told_by_value_not_by_text():
    changes, theirs = {"monthlyRate": "10000.00"}, {"monthlyRate": "9000.00"}
    assert settled(changes, theirs, {"monthlyRate": "max"}) == {"monthlyRate": "10000.00"}
    assert settled(changes, theirs, {"monthlyRate": "min"}) == {"monthlyRate": "9000.00"}


def test_the_later_and_the_earlier_date():
    changes, theirs = {"forecastEnd": "2026-08-01"}, {"forecastEnd": "2026-07-01"}
    assert settled(changes, theirs, {"forecastEnd": "max"}) == {"forecastEnd": "2026-08-01"}
    assert settled(changes, theirs, {"forecastEnd": "min"}) == {"forecastEnd": "2026-07-01"}


def test_larger_means_nothing_for_text_and_for_a_missing_value():
    assert settled({"model": "A"}, {"model": "B"}, {"model": "max"}) is None
    assert settled({"forecastEnd": None}, {"forecastEnd": "2026-07-01"}, {"forecastEnd": "max"}) is None
    assert Rule.MAX not in rules_for("model")
    assert Rule.MAX in rules_for("monthlyRate")
    assert "isDiscontinued" not in RULED
    assert "description" not in RULED


def test_one_field_that_asks_makes_all_ask():
    changes, theirs = {"model": "A", "areaSilo": "A"}, {"model": "B", "areaSilo": "B"}
    assert settled(changes, theirs, {"model": "pems_wins"}) is None
    both = {"model": "pems_wins", "areaSilo": "local_wins"}
    assert settled(changes, theirs, both) == {"model": "B", "areaSilo": "A"}


class TestGuardRails:
    """Whatever the rules say."""

    def test_a_group_that_would_be_split_asks(self):
        changes = {"forecastStart": "2026-02-01", "forecastEnd": "2026-08-01"}
        theirs = {"forecastStart": "2026-03-01", "forecastEnd": "2026-09-01"}
        assert settled(changes, theirs, {"forecastStart": "local_wins", "forecastEnd": "pems_wins"}) is None
        assert settled(changes, theirs, {"forecastStart": "max", "forecastEnd": "min"}) is None
        assert settled(changes, theirs, {"forecastStart": "min", "forecastEnd": "min"}) == changes

    def test_our_start_beside_their_end_is_a_split_group_too(self):
        changes, theirs = {"forecastStart": "2026-02-01"}, {"forecastEnd": "2026-09-01"}
        assert settled(changes, theirs, {"forecastStart": "local_wins", "forecastEnd": "local_wins"}) is None
        stands = settled(changes, theirs, {"forecastStart": "pems_wins", "forecastEnd": "pems_wins"})
        assert stands == {"forecastStart": "2026-01-15", "forecastEnd": "2026-09-01"}

    @pytest.mark.parametrize(
        ("ours", "theirs", "asks"),
        [
            ("6500.00", "6000.00", False),
            ("6500.01", "6000.00", True),  # base to ours: 1000.01
            ("6000.00", "6500.01", True),  # base to theirs
            ("5000.00", "6000.01", True),  # between the sides
            (None, "6000.00", True),  # cleared: of unknown size
        ],
    )
    def test_an_amount_changed_by_more_than_the_threshold_asks(self, ours, theirs, asks):
        stored = plausible(source=None)
        rules = {"monthlyRate": "pems_wins"}
        found = settled({"monthlyRate": ours}, {"monthlyRate": theirs}, rules, stored=stored, threshold=Decimal(1000))
        assert (found is None) is asks
        assert settled({"monthlyRate": ours}, {"monthlyRate": theirs}, rules, stored=stored) is not None

    @pytest.mark.parametrize("side", ["stored", "theirs"])
    def test_an_actualized_record_asks(self, side):
        stored = plausible(isActualized=side == "stored")
        theirs = {"actualEnd": "2026-09-01", "isActualized": side == "theirs"}
        rules = {"actualEnd": "pems_wins", "isActualized": "pems_wins"}
        assert settled({"actualEnd": "2026-08-01"}, theirs, rules, stored=stored) is None

    def test_a_merged_record_that_breaks_a_rule_asks(self):
        stored = plausible(forecastStart=None, forecastEnd=None)
        changes = {"forecastStart": "2026-05-01"}
        theirs = {"forecastStart": "2026-02-01", "forecastEnd": "2026-03-01"}
        rules = {"forecastStart": "local_wins", "forecastEnd": "local_wins"}
        assert settled(changes, theirs, rules, stored=stored) is None
        bad = {"monthlyRate": None}  # PEMS itself: a rental without a rate
        assert settled({"monthlyRate": "1.00"}, bad, {"monthlyRate": "pems_wins"}) is None


def test_what_we_changed_beside_a_clash_gives_way_with_its_group():
    """PEMS actualized the record: our source clashes with a rule, the price we set with it does not by itself."""
    changes = {"source": "Purchase", "purchasePrice": "9.00", "model": "A"}
    theirs = {**plausible(), "source": "Rental", "monthlyRate": "1.00"}
    rules = dict.fromkeys(UNITS["terms"], Rule.PEMS_WINS)
    stands = settle(
        Policies(rules), base=base_for(changes, plausible()), changes=changes, theirs=theirs,
        clashing=["source"], ours_at=EARLY, theirs_at=LATE,
    )  # fmt: skip
    assert stands == {"source": "Rental", "purchasePrice": None}
    assert given_up(stands, changes, theirs) == ["source", "purchasePrice"]


@settings(max_examples=100, deadline=None)
@given(three_sides(), st.dictionaries(st.sampled_from(RULED), st.sampled_from(list(Rule)), min_size=8))
def test_a_settlement_is_whole_valid_and_of_one_side_per_group(three, rules):
    stored, changes, theirs = three
    base = base_for(changes, stored)
    found = compare(base=base, changes=changes, theirs=theirs, delete=False)
    if not isinstance(found, Overlap) or found.kind is not ConflictKind.EDIT_EDIT:
        return
    stands = settle(
        Policies(rules), base=base, changes=changes, theirs=theirs, clashing=found.fields, ours_at=EARLY, theirs_at=LATE
    )  # fmt: skip
    if stands is None:
        return
    assert set(found.fields) <= set(stands)
    left = {name: value for name, value in changes.items() if name not in given_up(stands, changes, theirs)}
    merged = {**theirs, **left}
    assert {name: merged[name] for name in stands} == stands
    for unit in {unit_of(name) for name in stands}:
        wanted = {name: changes.get(name, stored[name]) for name in UNITS[unit]}
        assert {name: merged[name] for name in UNITS[unit]} in (wanted, {name: theirs[name] for name in UNITS[unit]})
    assert not validation.split(validation.violations_of(theirs, left), left)[0]
    assert not base.get("isActualized")
    assert not theirs["isActualized"]
    assert all(name in FIELDS for name in stands)
