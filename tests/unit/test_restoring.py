"""What it takes to bring a record back: a pure plan (C11)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pems_sync.fields import FIELDS, Kind
from pems_sync.restoring import Written, plan, wanted_to_undo
from tests.cast import plausible

EVERYTHING = {"edit_forecast", "edit_actuals"}


def test_only_what_differs_would_be_written():
    now = plausible(model="NOW")
    made = plan(now=now, wanted=plausible(), permissions=EVERYTHING)
    assert (made.before, made.changes, made.skipped, made.errors) == ({"model": "NOW"}, {"model": "330"}, [], [])


def test_an_explicit_null_is_brought_back():
    """K9: a field that was empty is cleared again."""
    made = plan(now=plausible(areaSilo="North"), wanted=plausible(areaSilo=None), permissions=EVERYTHING)
    assert made.changes == {"areaSilo": None}


def test_fields_that_cannot_be_written_are_skipped_each_with_its_reason():
    wanted = plausible(description="Then", actualStart="2026-01-01", isFundsTransferable=None)
    made = plan(now=plausible(), wanted=wanted, permissions={"edit_forecast"})
    assert made.changes == {}
    assert {each.field: each.reason for each in made.skipped} == {
        "description": "It may be edited in PEMS only.",
        "actualStart": "You may not edit it: that needs the permission 'edit_actuals'.",
        "isFundsTransferable": "It was not known then, and cannot be unset.",
    }


def test_broken_rules_are_those_of_the_record_as_it_would_be():
    now = plausible(forecastStart="2026-05-01", forecastEnd="2026-12-31")
    made = plan(now=now, wanted={"forecastEnd": "2026-04-01"}, permissions=EVERYTHING)
    assert [(each.field, each.code) for each in made.errors] == [("forecastEnd", "INVALID_DATE_ORDER")]


def test_a_rule_broken_elsewhere_does_not_hinder():
    now = plausible(originalEnd="2025-01-01", model="NOW")
    assert plan(now=now, wanted={"model": "THEN"}, permissions=EVERYTHING).errors == []


def test_discontinued_comes_back_alone_and_never_goes():
    gone = plausible(isDiscontinued=True)
    assert plan(now=plausible(), wanted=gone, permissions=EVERYTHING).errors == []
    assert plan(now=plausible(), wanted=gone | {"model": "THEN"}, permissions=EVERYTHING).errors != []
    assert plan(now=gone, wanted=plausible(), permissions=EVERYTHING).errors != []


def test_a_value_of_pems_that_may_not_be_sent_is_an_error():
    made = plan(now=plausible(), wanted=plausible(dor="SOMETHING"), permissions=EVERYTHING)
    assert [(each.field, each.code) for each in made.errors] == [("dor", "INVALID_ENUM_VALUE")]


@given(st.data())
def test_once_carried_out_nothing_but_the_skipped_differs(data):
    names = st.sampled_from([name for name, field in FIELDS.items() if field.kind is Kind.TEXT and not field.choices])
    values = st.dictionaries(names, st.sampled_from([None, "A", "B"]))
    now, wanted = (plausible(**data.draw(values)) for _ in range(2))
    made = plan(now=now, wanted=wanted, permissions=EVERYTHING)
    after = {**now, **made.changes}
    left = {each.field for each in made.skipped}
    assert {name for name in FIELDS if after[name] != wanted[name]} == left
    assert not plan(now=after, wanted=wanted, permissions=EVERYTHING).changes


def test_undone_is_what_still_stands():
    written = [
        Written({"model": "A", "areaSilo": "X", "dor": "BEO"}, {"model": "B", "areaSilo": "Y", "dor": "PROJECT"})
    ]
    wanted, skipped = wanted_to_undo(written, {"model": "B", "areaSilo": "Z", "dor": "BEO"})
    assert wanted == {"model": "A"}
    assert [each.field for each in skipped] == ["areaSilo"], "dor went back by itself: nothing to say"


def test_several_edits_of_a_record_go_back_to_before_the_first():
    written = [
        Written({"model": "A"}, {"model": "B"}),
        Written({"model": "B", "dor": "BEO"}, {"model": "C", "dor": "X"}),
    ]
    assert wanted_to_undo(written, {"model": "C", "dor": "X"}) == ({"model": "A", "dor": "BEO"}, [])
