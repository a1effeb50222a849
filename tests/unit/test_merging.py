"""Whose values stand, field by field: what is sent, what stands, and what cannot be (K4, K9)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from conflicts.merging import Merged, merge, read_choices
from conflicts.sides import pattern_of, side_by_side
from pems_sync.drift import Overlap, base_for, compare
from pems_sync.fields import FIELDS, Values
from pems_sync.validation import split, violations_of
from tests.cast import plausible

PLANNER = frozenset({"edit_forecast"})


def merged(changes: Values, theirs: Values, chosen: Values, *, clashing: tuple[str, ...], **stored: Any) -> Merged:
    """`stored`: what both started from; `theirs`: what PEMS changed of it."""
    start = plausible(**stored)
    now = {**start, **theirs}
    base = base_for(changes, start)
    fields = [side_by_side(name, base, {**base, **changes}, now) for name in clashing]
    return merge(record_fields=now, base=base, changes=changes, conflict_fields=fields, chosen=chosen)


def codes(result: Merged) -> list[tuple[str, str]]:
    return [(each.field, each.code) for each in result.violations]


def test_the_chosen_value_stands_and_the_rest_of_the_edit_stays_as_it_was() -> None:
    result = merged({"model": "320", "areaSilo": "East"}, {"model": "340"}, {"model": "350"}, clashing=("model",))
    assert result.changes == {"model": "350", "areaSilo": "East"}
    assert result.decided == {"model": "350"}
    assert result.values == {**plausible(), "model": "350", "areaSilo": "East"}
    assert result.violations == []


def test_what_pems_has_already_is_not_sent() -> None:
    ours = {"model": "320", "areaSilo": "East"}
    result = merged(ours, {"model": "340"}, {"model": "340"}, clashing=("model",))
    assert (result.changes, result.decided) == ({"areaSilo": "East"}, {"model": "340"})
    assert merged({"model": "320"}, {"model": "340"}, {"model": "340"}, clashing=("model",)).changes == {}


def test_null_clears_a_field() -> None:
    """K9"""
    result = merged({"model": "320"}, {"model": "340"}, {"model": None}, clashing=("model",))
    assert (result.changes, result.violations) == ({"model": None}, [])


def test_each_conflicting_field_must_be_named() -> None:
    ours = {"model": "320", "dor": "BEO"}
    result = merged(ours, {"model": "340", "dor": None}, {"dor": "BEO"}, clashing=("dor", "model"))
    assert codes(result) == [("model", "MISSING_REQUIRED_FIELD")]


def test_group_partners_that_nobody_names_keep_the_value_of_pems() -> None:
    """K4: the end we choose stands beside the start that PEMS has now, not beside the one we started from."""
    theirs = {"forecastStart": "2026-02-01", "forecastEnd": "2026-07-31"}
    both = ("forecastStart", "forecastEnd")
    result = merged({"forecastEnd": "2026-08-31"}, theirs, {"forecastEnd": "2026-09-30"}, clashing=both)
    assert result.changes == {"forecastEnd": "2026-09-30"}
    assert result.decided == {"forecastStart": "2026-02-01", "forecastEnd": "2026-09-30"}


def test_a_merge_that_breaks_a_rule_says_which() -> None:
    theirs = {"forecastStart": "2026-02-01", "forecastEnd": "2026-07-31"}
    ours = {"forecastEnd": "2026-08-31"}
    result = merged(ours, theirs, {"forecastEnd": "2026-01-31"}, clashing=("forecastStart", "forecastEnd"))
    assert codes(result) == [("forecastEnd", "INVALID_DATE_ORDER")]


def test_a_rule_that_was_broken_elsewhere_before_stops_no_merge() -> None:
    result = merged({"model": "320"}, {"model": "340"}, {"model": "350"}, clashing=("model",), originalEnd="2020-01-01")
    assert result.violations == []


def test_a_field_that_pems_moved_and_nobody_looked_at_is_asked_for() -> None:
    ours = {"model": "320", "areaSilo": "East"}
    result = merged(ours, {"model": "340", "areaSilo": "West"}, {"model": "350"}, clashing=("model",))
    assert codes(result) == [("areaSilo", "MISSING_REQUIRED_FIELD")]


def test_a_merge_neither_deletes_nor_brings_back() -> None:
    chosen = {"model": "320", "isDiscontinued": True}
    assert ("isDiscontinued", "BUSINESS_RULE_VIOLATION") in codes(
        merged({"model": "320"}, {"model": "340"}, chosen, clashing=("model",))
    )
    back = merged(
        {"model": "320"}, {"isDiscontinued": True}, {"model": "320", "isDiscontinued": False},
        clashing=("isDiscontinued", "model"),
    )  # fmt: skip
    assert ("isDiscontinued", "BUSINESS_RULE_VIOLATION") in codes(back)


def test_that_a_record_stays_discontinued_may_be_said() -> None:
    chosen, wrong = read_choices({"model": "320", "isDiscontinued": True}, permissions=PLANNER)
    assert (chosen, wrong) == ({"model": "320", "isDiscontinued": True}, [])
    result = merged({"model": "320"}, {"isDiscontinued": True}, chosen, clashing=("isDiscontinued", "model"))
    assert (result.changes, result.violations) == ({"model": "320"}, [])


def test_choices_are_read_like_a_draft() -> None:
    raw = {"monthlyRate": 5500, "nope": 1, "actualStart": "2026-01-01", "dor": "ME", "isDiscontinued": "yes"}
    chosen, wrong = read_choices(raw, permissions=PLANNER)
    assert chosen == {"monthlyRate": "5500.00"}
    assert {each.field: each.code for each in wrong} == {
        "nope": "UNKNOWN_FIELD",
        "actualStart": "FIELD_NOT_EDITABLE",
        "dor": "INVALID_ENUM_VALUE",
        "isDiscontinued": "INVALID_TYPE",
    }


_VALUES: dict[str, list[str | None]] = {
    "model": ["320", "330", None],
    "forecastStart": ["2026-01-01", "2026-03-01", None],
    "forecastEnd": ["2026-02-01", "2026-04-01", None],
    "source": ["Rental", "Purchase"],
    "monthlyRate": ["1.00", "2.00", None],
    "purchasePrice": ["1.00", "2.00", None],
}
_some = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in _VALUES.items()})


@given(ours=_some, theirs=_some, chosen=_some)
def test_what_would_be_sent_always_validates_or_is_refused(ours: Values, theirs: Values, chosen: Values) -> None:
    """And no side is lost: every conflicting field has a value that stands, chosen or PEMS's."""
    start = plausible()
    now, base = {**start, **theirs}, base_for(ours, start)
    verdict = compare(base=base, changes=ours, theirs=now, delete=False)
    if not ours or not isinstance(verdict, Overlap):
        return
    fields = [side_by_side(name, base, {**base, **ours}, now) for name in verdict.fields]
    result = merge(record_fields=now, base=base, changes=ours, conflict_fields=fields, chosen=chosen)
    broken = split(violations_of(now, result.changes), result.changes)[0]
    unnamed = [name for name in verdict.fields if name in ours and name not in chosen]
    assert bool(result.violations) == bool(broken or unnamed)
    assert result.decided == {name: chosen.get(name, now.get(name)) for name in verdict.fields}
    assert all(now[name] != value for name, value in result.changes.items())


def row(name: str, base: Any, theirs: Any) -> dict[str, Any]:
    return {"name": name, "base": base, "ours": None, "theirs": theirs, "group": FIELDS[name].group}


def test_a_pattern_is_the_same_for_the_same_change_of_pems() -> None:
    end = row("forecastEnd", "2026-06-30", "2026-07-31")
    assert pattern_of("edit_edit", [end]) == "forecastEnd 2026-06-30 → 2026-07-31"
    flag = row("isDiscontinued", False, None)
    assert pattern_of("edit_edit", [flag, end]) == "forecastEnd 2026-06-30 → 2026-07-31; isDiscontinued no → none"
    assert pattern_of("overtaken", [end]) == "overtaken: forecastEnd 2026-06-30 → 2026-07-31"


def test_amounts_cannot_be_read_in_a_pattern_and_still_tell_it_apart() -> None:
    one = pattern_of("edit_edit", [row("monthlyRate", "5500.00", "6000.00")])
    other = pattern_of("edit_edit", [row("monthlyRate", "5500.00", "7000.00")])
    assert one != other
    assert one.split(" → ")[0] == other.split(" → ")[0]
    assert not any(amount in one + other for amount in ("5500", "6000", "7000"))


def test_long_texts_stay_apart_within_the_length_of_the_column() -> None:
    names = ("model", "areaSilo", "category", "class", "manufacturer", "description", "contract", "equipment")
    one, other = ([row(name, "x" * 400, "y" * 400 + end) for name in names] for end in "12")
    assert len(pattern_of("edit_edit", one)) == len(pattern_of("edit_edit", other)) == 300
    assert pattern_of("edit_edit", one) != pattern_of("edit_edit", other)
