"""One codec per field: equal values in any formatting are equal, and different ones never are (K2, K9, N6)."""

import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pems_sync.fields import FIELDS, TEXT_LIMIT, UNITS, FieldError, Kind, unit_of, with_partners

MONEY, DATE, TEXT, FLAG = FIELDS["monthlyRate"], FIELDS["forecastStart"], FIELDS["description"], FIELDS["hasPlan"]
amounts = st.decimals(min_value=0, max_value=Decimal("999999999999.99"), places=2)
dates = st.dates(date(1900, 1, 1), date(2200, 1, 1))
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=TEXT_LIMIT)


def code(field, raw):
    with pytest.raises(FieldError) as refused:
        field.parse(raw)
    return refused.value.code


@given(amounts)
def test_an_amount_is_the_same_however_it_is_written(amount):
    spellings = [amount, str(amount), f" {amount} ", str(amount.normalize()), f"{amount}000"[: len(str(amount)) + 1]]
    assert {MONEY.parse(spelling) for spelling in spellings} == {f"{amount:.2f}"}


@given(amounts)
def test_an_amount_comes_back_from_pems_as_it_was_sent(amount):
    sent = json.loads(json.dumps(MONEY.to_pems(MONEY.parse(amount))))
    assert MONEY.read(sent) == MONEY.parse(amount)


@given(amounts, amounts)
def test_two_amounts_are_equal_exactly_when_their_values_are(one, other):
    assert (MONEY.parse(one) == MONEY.parse(other)) == (one == other)


@given(dates, st.times(), st.sampled_from(["", "Z", "+02:00", "-05:00"]))
def test_a_date_is_the_same_with_a_time_behind_it(day, time, zone):
    written = datetime.combine(day, time)
    spellings = [day, day.isoformat(), written, written.isoformat() + zone, written.isoformat(sep=" ") + zone]
    assert {DATE.parse(spelling) for spelling in spellings} == {day.isoformat()}


def test_a_datetime_with_a_zone_is_cut_not_converted():
    late = datetime(2026, 1, 31, 23, 0, tzinfo=timezone(timedelta(hours=-5)))
    assert DATE.parse(late) == DATE.parse(late.isoformat()) == "2026-01-31"


@given(texts)
def test_text_reads_back_as_it_was_stored(text):
    stored = TEXT.parse(text)
    assert TEXT.parse(stored) == TEXT.read(stored) == stored
    assert stored != ""


@pytest.mark.parametrize("field", [MONEY, DATE, TEXT])
def test_null_and_nothing_are_the_same(field):
    assert field.parse(None) is field.parse("") is field.read(None) is field.read("") is None


def test_composed_and_decomposed_letters_are_the_same_text():
    assert TEXT.parse("Zoe\u0308") == TEXT.parse("Zo\u00eb") == TEXT.read("Zoe\u0308 ")


@pytest.mark.parametrize(
    ("field", "raw", "expected"),
    [
        (MONEY, True, "INVALID_TYPE"),
        (MONEY, "much", "INVALID_TYPE"),
        (MONEY, "1_000", "INVALID_TYPE"),
        (MONEY, [1], "INVALID_TYPE"),
        (MONEY, "1.005", "INVALID_VALUE"),
        (MONEY, 0.001, "INVALID_VALUE"),
        (MONEY, float("nan"), "INVALID_VALUE"),
        (MONEY, float("inf"), "INVALID_VALUE"),
        (MONEY, "1" * 401, "INVALID_VALUE"),
        (MONEY, 10**12, "INVALID_RANGE"),
        (MONEY, "1e400", "INVALID_RANGE"),
        (DATE, 20260131, "INVALID_TYPE"),
        (DATE, "31.01.2026", "INVALID_VALUE"),
        (DATE, "2026-02-30", "INVALID_VALUE"),
        (TEXT, 5, "INVALID_TYPE"),
        (TEXT, "a\0b", "INVALID_VALUE"),
        (TEXT, "\ud800", "INVALID_VALUE"),
        (TEXT, "x" * (TEXT_LIMIT + 1), "TOO_LONG"),
        (FLAG, "true", "INVALID_TYPE"),
        (FLAG, 1, "INVALID_TYPE"),
        (FIELDS["dor"], "OTHER", "INVALID_ENUM_VALUE"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_code(field, raw, expected):
    assert code(field, raw) == expected


def test_an_integer_of_thousands_of_digits_is_refused_like_any_other():
    assert code(MONEY, 10**5000) in ("INVALID_VALUE", "INVALID_TYPE")


def test_what_pems_holds_is_read_though_no_planner_could_enter_it():
    assert MONEY.read(5500.004999) == "5500.00"
    assert MONEY.read("5500") == "5500.00"
    assert TEXT.read("x" * 600) == "x" * 600
    assert FIELDS["dor"].read("LEGACY") == "LEGACY"
    assert TEXT.read("a\0b") == "ab"


@pytest.mark.parametrize("raw", [1e40, float("inf"), -1e13, 10**60])
def test_an_amount_of_pems_beyond_all_bounds_is_refused_as_a_field_not_as_a_crash(raw):
    with pytest.raises(FieldError):
        MONEY.read(raw)


def test_money_travels_as_a_number_and_clearing_as_null():
    assert MONEY.to_pems("5500.00") == 5500
    assert MONEY.to_pems("5500.50") == 5500.5
    assert MONEY.to_pems(None) is None
    assert FLAG.to_pems(False) is False


def test_every_field_belongs_to_exactly_one_unit():
    assert sorted(name for names in UNITS.values() for name in names) == sorted(FIELDS)
    assert with_partners({"forecastEnd"}) == {"forecastStart", "forecastEnd"}
    assert with_partners({"source"}) == {"source", "monthlyRate", "purchasePrice"}
    assert with_partners({"actualEnd"}) == {"actualStart", "actualEnd", "isActualized"}
    assert with_partners({"model"}) == {"model"}
    assert all(FIELDS[name].kind in Kind and unit_of(name) in UNITS for name in FIELDS)
