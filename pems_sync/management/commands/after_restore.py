"""`manage.py after_restore`: once on a restored database, before any worker (deploy/runbooks/restore.md)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from redis.exceptions import RedisError

from pems_sync.clock import database_now
from pems_sync.models import Organization
from pems_sync.services.restarting import Restarted, restart
from pems_sync.store import redis_store

HEARTBEATS = "pems-sync:worker:*"
"""Keys that workers set and renew: config/heartbeat.py."""


class Command(BaseCommand):
    help = (
        "Run once on a restored database before any worker starts: open edits are marked as perhaps sent, nothing is sent "
        "until PEMS has been read as a whole, and the time whose edits are lost is told. Again, it goes on where it was. "
        "The last line is JSON."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--backup-taken-at", help="ISO 8601; everything accepted before is in the backup")
        parser.add_argument("--force", action="store_true", help="although workers are alive")

    def handle(self, *args: Any, **options: Any) -> None:
        taken_at = _moment(options["backup_taken_at"])
        if not options["force"]:
            _demand_quiet()
        organizations = Organization.objects.order_by("slug")
        told = [restart(organization, backup_taken_at=taken_at) for organization in organizations]
        for each in told:
            self.stdout.write(_sentence(each))
        self.stdout.write("Not in the backup either: decisions, withdrawals and Idempotency-Keys of that time.")
        self.stdout.write(json.dumps({"ok": True, "organizations": [_figures(each) for each in told]}))


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = parse_datetime(text)
    if moment is None:
        raise CommandError(f"{text!r} is not a time: write it like 2026-03-01T10:00:00Z.", returncode=2)
    moment = moment if timezone.is_aware(moment) else timezone.make_aware(moment)
    if moment > database_now():
        raise CommandError(f"{text} is in the future: say when the backup was taken.", returncode=2)
    return moment


def _demand_quiet() -> None:
    try:
        alive = sorted(
            {key.decode().rpartition(":")[2] for key in redis_store().scan_iter(match=HEARTBEATS, count=1000)}
        )
    except RedisError as error:
        raise CommandError(
            "Redis does not answer, so nobody can say whether workers are alive: start it, or give --force."
        ) from error
    if alive:
        raise CommandError(
            f"Workers are alive ({', '.join(alive)}): stop them, wait 15 seconds and run this again, or give --force."
        )


def _sentence(each: Restarted) -> str:
    since = f"{each.lost_from:%Y-%m-%d %H:%M:%S} UTC" if each.lost_from else "the beginning"
    counts = ", ".join(f"{number} {state}" for state, number in each.open.items() if number) or "none"
    return (
        f"{each.organization.slug}: what was accepted between {since} and {each.lost_until:%Y-%m-%d %H:%M:%S} UTC is lost. "
        f"Open edits: {counts}; {each.drafts} drafts. Nothing is sent until PEMS has been read as a whole."
    )


def _figures(each: Restarted) -> dict[str, Any]:
    return {
        "organizationId": each.organization.slug,
        "containedUntil": _stamp(each.contained_until),
        "lostFrom": _stamp(each.lost_from),
        "lostUntil": _stamp(each.lost_until),
        "open": each.open,
        "drafts": each.drafts,
    }


def _stamp(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
