"""Maintenance windows as people order them: checked, stored, journalled for each organization of the connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any

from pems_sync import dispatch, events
from pems_sync.errors import DomainError, NotFoundError
from pems_sync.journal import UnitOfWork, unit_of_work
from pems_sync.models import Connection, MaintenanceWindow, Organization
from pems_sync.timetable import MOST_MINUTES, known_zone

MOST_WINDOWS = 50
LONGEST_NAME = 100


class InvalidWindowError(DomainError):
    """Such a window cannot be kept; `details` says what of it is wrong, by field."""

    code, status = "INVALID_WINDOW", 400


@dataclass(frozen=True)
class Plan:
    """A window that is wanted. Days and times are those of `timezone`; `weekdays` 0 Monday … 6 Sunday, empty: every day."""

    name: str
    starts: time
    minutes: int
    timezone: str = "UTC"
    weekdays: tuple[int, ...] = ()
    first_day: date | None = None
    last_day: date | None = None

    def problems(self) -> dict[str, str]:
        """What is wrong, by field, as the end of a sentence that begins with the field."""
        found = {
            "name": (not 0 < len(self.name.strip()) <= LONGEST_NAME, f"must be 1 to {LONGEST_NAME} characters."),
            "timezone": (known_zone(self.timezone) is None, "is not known: write it as in 'Europe/Berlin', or 'UTC'."),
            "minutes": (not 1 <= self.minutes <= MOST_MINUTES, f"must be 1 to {MOST_MINUTES}, which is a week."),
            "weekdays": (not self._weekdays_are_some(), "must be days from 0 (Monday) to 6 (Sunday), each once."),
            "last_day": (not self._days_are_in_order(), "must not be before the first day."),
        }
        return {field: text for field, (wrong, text) in found.items() if wrong}

    def _weekdays_are_some(self) -> bool:
        return set(self.weekdays) <= set(range(7)) and len(set(self.weekdays)) == len(self.weekdays)

    def _days_are_in_order(self) -> bool:
        return self.first_day is None or self.last_day is None or self.first_day <= self.last_day


def as_wire(window: MaintenanceWindow) -> dict[str, Any]:
    """As the API shows it and the journal keeps it."""
    return {
        "id": window.pk,
        "name": window.name,
        "timezone": window.timezone,
        "weekdays": sorted(window.weekdays),
        "starts": window.starts.isoformat("minutes"),
        "minutes": window.minutes,
        "firstDay": window.first_day.isoformat() if window.first_day else None,
        "lastDay": window.last_day.isoformat() if window.last_day else None,
    }


def windows_of(connection: Connection) -> list[MaintenanceWindow]:
    return list(MaintenanceWindow.objects.filter(connection=connection).order_by("pk"))


def add_window(connection: Connection, plan: Plan, *, actor: str) -> MaintenanceWindow:
    """Open from now on whenever its time has come. Raises InvalidWindowError."""
    _refuse_problems(plan)
    with unit_of_work() as work:
        _lock(connection)
        if MaintenanceWindow.objects.filter(connection=connection).count() >= MOST_WINDOWS:
            message = f"A connection has at most {MOST_WINDOWS} maintenance windows. Remove those that are over first."
            raise InvalidWindowError(message)
        window = MaintenanceWindow(connection=connection)
        _write(window, plan)
        _tell(work, connection, actor, before=None, after=as_wire(window))
    return window


def change_window(connection: Connection, window_id: int, plan: Plan, *, actor: str) -> MaintenanceWindow:
    """Raises InvalidWindowError, NotFoundError."""
    _refuse_problems(plan)
    with unit_of_work() as work:
        window = _window(connection, window_id)
        before = as_wire(window)
        _write(window, plan)
        if as_wire(window) != before:
            _tell(work, connection, actor, before=before, after=as_wire(window))
    dispatch.ring(connection.pk)  # it may be over by that
    return window


def remove_window(connection: Connection, window_id: int, *, actor: str) -> None:
    """What waits for its end goes at once. Raises NotFoundError."""
    with unit_of_work() as work:
        window = _window(connection, window_id)
        before = as_wire(window)
        window.delete()
        _tell(work, connection, actor, before=before, after=None)
    dispatch.ring(connection.pk)


def _refuse_problems(plan: Plan) -> None:
    problems = plan.problems()
    if problems:
        raise InvalidWindowError(
            " ".join(f"{field.replace('_', ' ').capitalize()} {text}" for field, text in problems.items()),
            details={"fields": sorted(problems)},
        )


def _lock(connection: Connection) -> None:
    """Two who change windows of one connection do so one after the other."""
    Connection.objects.select_for_update(of=("self",), no_key=True).get(pk=connection.pk)


def _window(connection: Connection, window_id: int) -> MaintenanceWindow:
    _lock(connection)
    window = MaintenanceWindow.objects.filter(connection=connection, pk=window_id).first()
    if window is None:
        raise NotFoundError
    return window


def _write(window: MaintenanceWindow, plan: Plan) -> None:
    window.name, window.timezone = plan.name.strip(), plan.timezone
    window.starts, window.minutes, window.weekdays = plan.starts, plan.minutes, sorted(plan.weekdays)
    window.first_day, window.last_day = plan.first_day, plan.last_day
    window.save()


def _tell(
    work: UnitOfWork, connection: Connection, actor: str,
    *, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    """Each organization of the connection finds it in its own audit."""
    for organization in Organization.objects.filter(connection=connection).order_by("pk"):
        work.record(events.MaintenanceChanged(organization_id=organization.pk, actor=actor, before=before, after=after))
