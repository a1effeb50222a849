"""The rules of API.md on the merged record."""

import pytest

from pems_sync.fields import FIELDS
from pems_sync.models.organization import ROLE_PERMISSIONS, Role
from pems_sync.validation import parse_changes, split, violations_of
from tests.cast import plausible

PLANNER = frozenset(ROLE_PERMISSIONS[Role.PLANNER])
LEAD = frozenset(ROLE_PERMISSIONS[Role.LEAD])


def codes(stored, **changes):
    return {(each.field, each.code) for each in violations_of(stored, changes)}


def refused(raw, permissions=LEAD):
    changes, violations = parse_changes(raw, permissions=permissions)
    return changes, {(each.field, each.code) for each in violations}


@pytest.mark.parametrize(
    ("stored", "changes", "broken"),
    [
        ({}, {}, set()),
        ({}, {"forecastEnd": "2026-01-01"}, {("forecastEnd", "INVALID_DATE_ORDER")}),
        ({}, {"forecastEnd": "2026-01-15"}, set()),
        ({"actualStart": "2026-02-01"}, {"actualEnd": "2026-01-01"}, {("actualEnd", "INVALID_DATE_ORDER")}),
        ({"originalEnd": "2025-01-01"}, {}, {("originalEnd", "INVALID_DATE_ORDER")}),
        ({}, {"monthlyRate": None}, {("monthlyRate", "MISSING_REQUIRED_FIELD")}),
        ({}, {"source": "Purchase"}, {("purchasePrice", "MISSING_REQUIRED_FIELD")}),
        ({}, {"source": "Purchase", "purchasePrice": "1.00"}, set()),
        ({}, {"monthlyRate": "-1.00"}, {("monthlyRate", "INVALID_RANGE")}),
        ({}, {"purchasePrice": "0.00"}, set()),
        (
            {"isActualized": True, "actualStart": "2026-02-01"},
            {"actualStart": "2026-02-02"},
            {("actualStart", "BUSINESS_RULE_VIOLATION")},
        ),
        ({"isActualized": True, "actualStart": "2026-02-01"}, {"actualStart": "2026-01-31"}, set()),
        ({"actualStart": "2026-02-01"}, {"actualStart": "2026-02-02"}, set()),
        (
            {"isActualized": True},
            {"source": "Purchase", "purchasePrice": "5.00"},
            {("source", "BUSINESS_RULE_VIOLATION")},
        ),
        ({"isActualized": True}, {"isDiscontinued": True}, {("isDiscontinued", "BUSINESS_RULE_VIOLATION")}),
        ({"isDiscontinued": True}, {"isDiscontinued": False}, {("isDiscontinued", "BUSINESS_RULE_VIOLATION")}),
        ({}, {"isDiscontinued": True}, set()),
    ],
)
def test_a_rule_of_the_merged_record(stored, changes, broken):
    assert codes(plausible(**stored), **changes) == broken


def test_only_a_violation_that_touches_a_changed_field_or_its_group_is_refused():
    stored = plausible(forecastEnd="2025-01-01")
    changes = {"model": "340"}
    assert [len(part) for part in split(violations_of(stored, changes), changes)] == [0, 1]
    changes = {"forecastStart": "2026-02-01"}
    assert [len(part) for part in split(violations_of(stored, changes), changes)] == [1, 0]


def test_an_unknown_field_and_one_that_nobody_edits_are_refused_by_name():
    assert refused({"nope": 1, "pfaId": "x", "contract": "C-2"})[1] == {
        ("nope", "UNKNOWN_FIELD"),
        ("pfaId", "UNKNOWN_FIELD"),
        ("contract", "FIELD_NOT_EDITABLE"),
    }


def test_a_field_needs_its_own_permission():
    assert refused({"actualStart": "2026-01-01"}, PLANNER)[1] == {("actualStart", "FIELD_NOT_EDITABLE")}
    assert refused({"actualStart": "2026-01-01"}, LEAD) == ({"actualStart": "2026-01-01"}, set())


def test_a_field_can_be_cleared_but_a_flag_cannot():
    assert refused({"model": None, "areaSilo": ""}) == ({"model": None, "areaSilo": None}, set())
    assert refused({"isFundsTransferable": None})[1] == {("isFundsTransferable", "INVALID_TYPE")}


def test_a_soft_delete_is_sent_alone():
    assert refused({"isDiscontinued": True, "model": "X"})[1] == {("isDiscontinued", "BUSINESS_RULE_VIOLATION")}
    assert refused({"isDiscontinued": True}) == ({"isDiscontinued": True}, set())


def test_a_violation_is_shown_with_field_code_and_sentence():
    (violation,) = violations_of(plausible(), {"forecastEnd": "2020-01-01"})
    assert violation.as_wire() == {
        "field": "forecastEnd",
        "code": "INVALID_DATE_ORDER",
        "message": "forecastEnd (2020-01-01) is before forecastStart (2026-01-15).",
    }
    assert set(FIELDS) >= violation.touches
