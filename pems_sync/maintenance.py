"""Maintenance windows: while one is open nothing is sent to a connection and nothing is read from it.

What is under way finishes. `scheduling.may_send` and `may_read` ask here, and so does each single request just before it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from pems_sync.clock import database_now
from pems_sync.models import Connection, MaintenanceWindow
from pems_sync.timetable import Timetable, open_until

KEPT_SECONDS = 2.0
"""A change of another process is seen after that long at most; asking costs no query in between."""

_kept: dict[int, tuple[float, list[MaintenanceWindow]]] = {}


def window_now(connection: Connection, now: datetime | None = None) -> MaintenanceWindow | None:
    """The window that is open, the one that ends last where there are several. One query every two seconds at most."""
    at = now or database_now()
    ends = [(end, each) for each in _windows(connection) if (end := timetable_of(each).open_until(at))]
    return max(ends, key=lambda pair: pair[0])[1] if ends else None


def open_till(connection: Connection, now: datetime | None = None) -> datetime | None:
    """When requests may leave again; None when they may now."""
    return open_until([timetable_of(each) for each in _windows(connection)], now or database_now())


def notice(connection: Connection, now: datetime | None = None) -> str | None:
    """What people read as the reason; None outside of windows."""
    window, end = window_now(connection, now), open_till(connection, now)
    if window is None or end is None:
        return None
    return f"Maintenance of PEMS until {end:%Y-%m-%d %H:%M} UTC: {window.name}"


class Watch:
    """For the moment right before a request leaves, in which no query may delay it: the windows as of now, by the database's
    clock whatever that of the worker says."""

    def __init__(self, connection: Connection) -> None:
        self._timetables = [timetable_of(each) for each in _windows(connection)]
        self._started = monotonic()
        self._at = database_now() if self._timetables else None

    def closed(self) -> bool:
        if self._at is None:
            return False
        return open_until(self._timetables, self._at + timedelta(seconds=monotonic() - self._started)) is not None


def timetable_of(window: MaintenanceWindow) -> Timetable:
    return Timetable(
        window.timezone, window.starts, window.minutes, frozenset(window.weekdays), window.first_day, window.last_day
    )


def _windows(connection: Connection) -> list[MaintenanceWindow]:
    read_at, windows = _kept.get(connection.pk, (0.0, []))
    if not read_at or monotonic() - read_at > KEPT_SECONDS:
        windows = list(MaintenanceWindow.objects.filter(connection=connection).order_by("pk"))
        _kept[connection.pk] = (monotonic(), windows)
    return windows


@receiver([post_save, post_delete], sender=MaintenanceWindow, dispatch_uid="pems_sync.maintenance")
def _read_anew(instance: MaintenanceWindow, **_: Any) -> None:
    _kept.pop(instance.connection_id, None)
