"""`manage.py maintenance <connection>`: its windows; with --add or --remove, one more or one less."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import date, time
from getpass import getuser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from pems_sync.clock import database_now
from pems_sync.errors import NotFoundError
from pems_sync.maintenance import timetable_of
from pems_sync.models import Connection, MaintenanceWindow
from pems_sync.services.maintaining import InvalidWindowError, Plan, add_window, remove_window, windows_of

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Command(BaseCommand):
    help = "Lists, adds and removes the times in which nothing is sent to a connection and nothing read from it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("connection")
        parser.add_argument(
            "--add", metavar="NAME", help="what people read as the reason; needs --starts and --minutes"
        )
        parser.add_argument("--starts", type=_time, help="as in 22:00, in the time zone")
        parser.add_argument("--minutes", type=int, help="how long it lasts, 1 to 10080")
        parser.add_argument("--timezone", default="UTC", help="as in Europe/Berlin")
        parser.add_argument(
            "--weekdays", type=_weekdays, default=(), help="as in 5,6; 0 is Monday; left out: every day"
        )
        parser.add_argument("--first-day", type=_day, help="as in 2026-01-31; left out: from now on")
        parser.add_argument("--last-day", type=_day, help="the last on which it begins; left out: for ever")
        parser.add_argument("--remove", metavar="ID", type=int)

    def handle(self, *args: Any, connection: str, **options: Any) -> None:
        row = Connection.objects.filter(slug=connection).first()
        if row is None:
            known = ", ".join(Connection.objects.order_by("slug").values_list("slug", flat=True))
            raise CommandError(f"There is no connection {connection!r}. Those known: {known or 'none'}.")
        try:
            _carry_out(row, options, actor=f"manage.py ({getuser()})")
        except InvalidWindowError as error:
            raise CommandError(error.message) from error
        except NotFoundError as error:
            raise CommandError(
                f"{row.slug} has no window {options['remove']}. Without --remove they are listed."
            ) from error
        windows = windows_of(row)
        for window in windows:
            self.stdout.write(_line(window))
        if not windows:
            self.stdout.write(f"{row.slug} has no maintenance windows.")


def _carry_out(row: Connection, options: dict[str, Any], *, actor: str) -> None:
    if options["remove"] is not None and options["add"] is not None:
        raise CommandError("Either --add or --remove, not both.")
    if options["remove"] is not None:
        remove_window(row, options["remove"], actor=actor)
    if options["add"] is None:
        return
    if options["starts"] is None or options["minutes"] is None:
        raise CommandError("--add needs --starts and --minutes.")
    plan = Plan(
        name=options["add"], starts=options["starts"], minutes=options["minutes"], timezone=options["timezone"],
        weekdays=options["weekdays"], first_day=options["first_day"], last_day=options["last_day"],
    )  # fmt: skip
    add_window(row, plan, actor=actor)


def _line(window: MaintenanceWindow) -> str:
    days = ", ".join(_DAYS[day] for day in sorted(window.weekdays)) or "every day"
    bounds = " to ".join(str(day) if day else "…" for day in (window.first_day, window.last_day))
    end = timetable_of(window).open_until(database_now())
    state = f"open until {end:%Y-%m-%d %H:%M} UTC" if end else "not open now"
    times = f"{window.starts:%H:%M} {window.timezone} for {window.minutes} min"
    return f"{window.pk}  {window.name}: {days} {times}, {bounds}; {state}"


def _time(text: str) -> time:
    try:
        return time.fromisoformat(text).replace(tzinfo=None)
    except ValueError as error:
        raise ArgumentTypeError("must be a time as in 22:00") from error


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError("must be a day as in 2026-01-31") from error


def _weekdays(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(day) for day in text.split(",") if day.strip())
    except ValueError as error:
        raise ArgumentTypeError("must be numbers as in 5,6; 0 is Monday") from error
