"""When a maintenance window is open: both changes of the clock, midnight, a week, one day, and windows that touch."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest

from pems_sync.timetable import MOST_MINUTES, Timetable, known_zone, open_until

NIGHT = Timetable("Europe/Berlin", time(22), 120)


def at(text: str) -> datetime:
    """`2026-03-28 23:00`, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def lasting(table: Timetable, first: datetime, last: datetime) -> list[tuple[datetime, datetime]]:
    """Each occurrence between two times, to the minute: when it begins, and the minute in which it is over."""
    found: list[tuple[datetime, datetime]] = []
    now, begun = first, None
    while now <= last:
        is_open = table.open_until(now) is not None
        if is_open and begun is None:
            begun = now
        if not is_open and begun is not None:
            found.append((begun, now))
            begun = None
        now += timedelta(minutes=1)
    return found


def test_it_is_open_from_its_beginning_until_just_before_its_end():
    begin, end = at("2026-01-10 21:00"), at("2026-01-10 23:00")
    assert NIGHT.open_until(begin - timedelta(microseconds=1)) is None
    assert NIGHT.open_until(begin) == end
    assert NIGHT.open_until(end - timedelta(microseconds=1)) == end
    assert NIGHT.open_until(end) is None


def test_local_time_follows_summer_and_winter():
    assert NIGHT.open_until(at("2026-07-10 20:30")) == at("2026-07-10 22:00")
    assert NIGHT.open_until(at("2026-01-10 20:30")) is None


def test_a_window_over_midnight_belongs_to_the_day_it_begins_on():
    saturday = Timetable("Europe/Berlin", time(23), 180, frozenset({5}))
    assert saturday.open_until(at("2026-01-10 23:30")) == at("2026-01-11 01:00"), "Sunday by the clock"
    assert saturday.open_until(at("2026-01-11 23:30")) is None


def test_the_night_the_clock_leaps_forward_it_lasts_as_long_as_ever():
    """Berlin, 29 March 2026: 02:00 becomes 03:00."""
    night = Timetable("Europe/Berlin", time(1, 30), 60)
    assert lasting(night, at("2026-03-28 12:00"), at("2026-03-29 12:00")) == [
        (at("2026-03-29 00:30"), at("2026-03-29 01:30"))
    ]


def test_a_beginning_that_is_leapt_over_comes_as_much_later():
    gap = Timetable("Europe/Berlin", time(2, 30), 60)
    assert lasting(gap, at("2026-03-28 12:00"), at("2026-03-29 12:00")) == [
        (at("2026-03-29 01:30"), at("2026-03-29 02:30"))
    ]


def test_a_beginning_that_comes_twice_counts_once_and_lasts_real_minutes():
    """Berlin, 25 October 2026: 03:00 becomes 02:00."""
    fold = Timetable("Europe/Berlin", time(2, 30), 60)
    assert lasting(fold, at("2026-10-24 12:00"), at("2026-10-25 12:00")) == [
        (at("2026-10-25 00:30"), at("2026-10-25 01:30"))
    ]
    over = Timetable("Europe/Berlin", time(1), 180)
    assert over.open_until(at("2026-10-24 23:30")) == at("2026-10-25 02:00")


@pytest.mark.parametrize(("zone", "offset"), [("Pacific/Kiritimati", 14), ("Etc/GMT+12", -12), ("UTC", 0)])
def test_the_day_is_that_of_the_zone(zone: str, offset: int):
    """Noon of a Wednesday, as far from UTC as it gets."""
    table = Timetable(zone, time(12), 60, frozenset({2}))
    noon = at("2026-01-14 12:00") - timedelta(hours=offset)
    assert table.open_until(noon) == noon + timedelta(hours=1)
    assert table.open_until(noon + timedelta(days=1)) is None


def test_a_week_that_begins_each_week_is_always_open_and_a_day_less_is_not():
    whole = Timetable("UTC", time(9), MOST_MINUTES, frozenset({0}))
    for hours in range(0, 24 * 14, 5):
        assert whole.open_until(at("2026-01-12 09:00") + timedelta(hours=hours)) is not None, hours
    less = Timetable("UTC", time(9), MOST_MINUTES - 24 * 60, frozenset({0}))
    assert less.open_until(at("2026-01-18 08:59")) == at("2026-01-18 09:00")
    assert less.open_until(at("2026-01-18 09:00")) is None


def test_where_it_overlaps_itself_the_latest_end_counts():
    long = Timetable("UTC", time(0), 36 * 60)
    assert long.open_until(at("2026-01-14 06:00")) == at("2026-01-15 12:00")


def test_once_is_a_window_whose_first_day_is_its_last():
    once = Timetable("UTC", time(23), 120, first_day=date(2026, 1, 14), last_day=date(2026, 1, 14))
    assert lasting(once, at("2026-01-12 00:00"), at("2026-01-17 00:00")) == [
        (at("2026-01-14 23:00"), at("2026-01-15 01:00"))
    ]


def test_days_bound_its_beginnings_not_its_end():
    table = Timetable("UTC", time(23), 120, first_day=date(2026, 1, 13), last_day=date(2026, 1, 14))
    assert table.open_until(at("2026-01-12 23:30")) is None
    assert table.open_until(at("2026-01-13 23:30")) == at("2026-01-14 01:00")
    assert table.open_until(at("2026-01-15 00:30")) == at("2026-01-15 01:00")
    assert table.open_until(at("2026-01-15 23:30")) is None


def test_windows_that_touch_are_one_and_those_with_a_gap_are_not():
    first = Timetable("UTC", time(20), 60)
    touching, apart = Timetable("UTC", time(21), 60), Timetable("UTC", time(22, 1), 60)
    now = at("2026-01-14 20:10")
    assert open_until([first], now) == at("2026-01-14 21:00")
    assert open_until([touching, first, apart], now) == at("2026-01-14 22:00")
    assert open_until([first, apart], at("2026-01-14 21:30")) is None
    assert open_until([], now) is None


def test_windows_that_never_end_are_looked_at_no_further_than_needed():
    always = Timetable("UTC", time(0), 24 * 60)
    now = at("2026-01-14 20:10")
    end = open_until([always], now)
    assert end is not None
    assert end > now + timedelta(days=30)


@pytest.mark.parametrize("name", ["", "Europe", "Europe/Atlantis", "../UTC", "/etc/localtime", "a\0b", "x" * 300])
def test_what_is_no_time_zone(name: str):
    assert known_zone(name) is None


def test_a_zone_that_has_vanished_is_taken_for_utc():
    assert Timetable("Europe/Atlantis", time(12), 60).open_until(at("2026-01-14 12:30")) == at("2026-01-14 13:00")
