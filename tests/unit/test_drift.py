"""Base, ours and theirs, compared by value and by unit (K1 to K4, K7)."""

import pytest
from hypothesis import given

from pems_sync import validation
from pems_sync.drift import ConflictKind, Converged, Disjoint, Overlap, base_for, compare, moved_fields
from pems_sync.fields import FIELDS, UNITS, unit_of
from tests.cast import plausible
from tests.unit.three_sides import three_sides

STORED = plausible()


def verdict(changes, theirs=None, *, stored=STORED, delete=False):
    now = {**stored, **(theirs or {})}
    return compare(base=base_for(changes, stored), changes=changes, theirs=now, delete=delete)


def test_a_base_holds_the_group_partners_and_whether_it_was_discontinued():
    assert set(base_for({"forecastEnd": None}, STORED)) == {"forecastStart", "forecastEnd", "isDiscontinued"}


def test_the_same_change_on_both_sides_has_converged():
    assert verdict({"model": "340"}, {"model": "340"}) == Converged()
    assert verdict({"model": None}, {"model": None}) == Converged()


def test_another_field_is_no_conflict():
    assert verdict({"model": "340"}, {"areaSilo": "East"}) == Disjoint()


def test_another_value_of_the_same_field_is_a_conflict():
    assert verdict({"model": "340"}, {"model": "350"}) == Overlap(ConflictKind.EDIT_EDIT, ("model",))


def test_a_field_we_clear_and_they_change_is_a_conflict():
    assert verdict({"model": None}, {"model": "350"}) == Overlap(ConflictKind.EDIT_EDIT, ("model",))


def test_a_group_partner_that_moved_is_a_conflict_of_the_whole_group():
    found = verdict({"forecastStart": "2026-02-01"}, {"forecastEnd": "2026-07-31"})
    assert found == Overlap(ConflictKind.EDIT_EDIT, ("forecastStart", "forecastEnd"))


def test_our_value_there_but_its_partner_moved_has_not_converged():
    found = verdict({"forecastStart": "2026-02-01"}, {"forecastStart": "2026-02-01", "forecastEnd": "2026-07-31"})
    assert isinstance(found, Overlap)


def test_one_unit_converged_and_another_untouched_goes_on():
    assert verdict({"model": "340", "areaSilo": "East"}, {"model": "340"}) == Disjoint()


def test_a_value_set_on_purpose_is_a_wish_even_where_it_is_the_one_we_started_from():
    assert isinstance(verdict({"model": STORED["model"]}, {"model": "350"}), Overlap)


def test_a_unit_that_converged_and_moved_on_to_a_third_value_clashes():
    """The base stays where the planner saw it, so an agreement that ended is noticed."""
    changes = {"model": "340", "areaSilo": "East"}
    assert verdict(changes, {"model": "340"}) == Disjoint()
    assert verdict(changes, {"model": "350"}) == Overlap(ConflictKind.EDIT_EDIT, ("model",))


def test_disjoint_changes_that_together_break_a_rule_ask_a_person():
    stored = plausible(isActualized=False, actualStart=None, monthlyRate=None, source=None)
    changes = {"forecastStart": "2026-02-01"}
    assert verdict(changes, {"areaSilo": "East"}, stored=stored) == Disjoint()
    now = {**stored, "isActualized": True}
    found = compare(
        base=base_for({"isDiscontinued": True}, stored), changes={"isDiscontinued": True}, theirs=now, delete=False
    )
    assert found == Overlap(ConflictKind.EDIT_EDIT, ("isDiscontinued",))


def test_any_drift_under_a_delete_asks():
    found = verdict({"isDiscontinued": True}, {"areaSilo": "East"}, delete=True)
    assert found == Overlap(ConflictKind.DELETE_EDITED, ("isDiscontinued",))


def test_a_delete_of_what_pems_discontinued_already_has_converged():
    assert verdict({"isDiscontinued": True}, {"isDiscontinued": True, "model": "9"}, delete=True) == Converged()


def test_an_edit_of_what_pems_discontinued_asks():
    found = verdict({"model": "340"}, {"isDiscontinued": True})
    assert found == Overlap(ConflictKind.EDIT_DISCONTINUED, ("isDiscontinued", "model"))
    assert verdict({"model": "340"}, {"isDiscontinued": True, "model": "340"}) == found


def test_an_edit_of_what_was_discontinued_before_is_an_edit_like_any_other():
    stored = plausible(isDiscontinued=True)
    assert verdict({"model": "340"}, {"areaSilo": "East"}, stored=stored) == Disjoint()


@given(three_sides())
def test_no_side_is_ever_lost(sides):
    """Going on writes our changes over theirs: then they had left those units alone, or made our own change."""
    stored, changes, theirs = sides
    found = compare(base=base_for(changes, stored), changes=changes, theirs=theirs, delete=False)
    merged = {**theirs, **changes}
    match found:
        case Converged():
            assert merged == theirs
        case Disjoint():
            for unit in {unit_of(name) for name in changes}:
                for name in UNITS[unit]:
                    assert theirs[name] in (stored[name], merged[name])
            assert not validation.split(validation.violations_of(theirs, changes), changes)[0]
        case Overlap(_, fields):
            assert fields
            assert set(fields) <= set(FIELDS)


@given(three_sides())
def test_every_foreign_change_of_a_unit_of_ours_is_noticed(sides):
    stored, changes, theirs = sides
    base = base_for(changes, stored)
    found = compare(base=base, changes=changes, theirs=theirs, delete=False)
    if moved_fields(base, theirs):
        agreed = all(
            {name: theirs[name] for name in UNITS[unit]}
            in (
                {name: stored[name] for name in UNITS[unit]},
                {name: changes.get(name, stored[name]) for name in UNITS[unit]},
            )
            for unit in {unit_of(name) for name in changes}
        )
        assert isinstance(found, Overlap) or (agreed and not theirs["isDiscontinued"])


@given(three_sides())
def test_where_pems_did_not_move_nothing_clashes(sides):
    stored, changes, _ = sides
    found = compare(base=base_for(changes, stored), changes=changes, theirs=stored, delete=False)
    clean = not validation.split(validation.violations_of(stored, changes), changes)[0]
    assert not clean or isinstance(found, Converged | Disjoint)


@pytest.mark.parametrize("delete", [True, False])
def test_a_verdict_needs_no_field_that_pems_never_showed(delete):
    assert compare(base={}, changes={"model": "1"}, theirs={}, delete=delete)
