"""When a window is open: days and local times, pure (tested with both changes of the clock).

Days and times are those of the window's zone, minutes are real ones. A beginning that the clock leaps over in spring comes
as much later as it leaps; one that comes twice in autumn counts the first time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

MOST_MINUTES = 7 * 24 * 60
_MOST_JOINED = 60
"""Windows that follow each other without a gap are one, as far as anybody looks ahead."""


@dataclass(frozen=True)
class Timetable:
    """`weekdays` 0 Monday … 6 Sunday, of its beginnings; empty: every day. `first_day`, `last_day` bound its beginnings."""

    timezone: str
    starts: time
    minutes: int
    weekdays: frozenset[int] = frozenset()
    first_day: date | None = None
    last_day: date | None = None

    def open_until(self, now: datetime) -> datetime | None:
        """The end of the occurrence that `now` is in, the latest where they overlap; None outside of all. In UTC."""
        zone = known_zone(self.timezone) or ZoneInfo("UTC")
        today = now.astimezone(zone).date()
        reach = self.minutes // (24 * 60) + 2
        for back in range(-1, reach + 1):  # the latest beginning ends last
            day = today - timedelta(days=back)
            if self._begins_on(day):
                begin = datetime.combine(day, self.starts, tzinfo=zone).astimezone(UTC)
                end = begin + timedelta(minutes=self.minutes)
                if begin <= now < end:
                    return end
        return None

    def _begins_on(self, day: date) -> bool:
        return (
            (not self.weekdays or day.weekday() in self.weekdays)
            and (self.first_day is None or day >= self.first_day)
            and (self.last_day is None or day <= self.last_day)
        )


def open_until(timetables: Iterable[Timetable], now: datetime) -> datetime | None:
    """When none of these is open any more, windows joined that touch; None where none is open now."""
    tables, end = list(timetables), None
    for _ in range(_MOST_JOINED):
        later = [found for each in tables if (found := each.open_until(end or now))]
        if not later:
            break
        end = max(later)
    return end


def known_zone(name: str) -> ZoneInfo | None:
    """None for what is no zone of the time zone database."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return None
