"""The numbers of sync-status. None of them looks at finished rows: open ones are counted by their partial index,
finished ones come from the hourly tallies (F7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from pems_sync.api.wire import stamp
from pems_sync.client.connect import pace_for
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.maintenance import open_till
from pems_sync.models import Connection, Organization
from pems_sync.models.organization import Breaker
from pems_sync.services import breaking
from pems_sync.states import State
from pems_sync.tallies import percentile

SLOW_AFTER_SECONDS = 120
_WORDS = {
    State.QUEUED: "queued",
    State.SENDING: "syncing",
    State.UNKNOWN: "verifying",
    State.CONFLICTED: "conflict",
    State.DEAD: "failed",
}


@dataclass(frozen=True)
class OpenWork:
    """What is committed and not finished."""

    counts: dict[str, int]
    oldest_queued_at: datetime | None
    oldest_due_at: datetime | None

    @property
    def waiting(self) -> int:
        return self.counts["queued"] + self.counts["retrying"]


_OPEN = """
SELECT state, not_before IS NOT NULL AND (attempts > 0 OR error_message <> '') AS failed_before, count(*),
       min(queued_at), min(queued_at) FILTER (WHERE is_head AND (not_before IS NULL OR not_before <= %s))
FROM pems_sync_modification
WHERE organization_id = %s AND NOT (state IN ('confirmed', 'superseded', 'withdrawn'))
GROUP BY 1, 2
"""


def open_work(organization: Organization, now: datetime) -> OpenWork:
    counts = dict.fromkeys(_WORDS.values(), 0) | {"retrying": 0}
    oldest: list[datetime] = []
    due: list[datetime] = []
    for state, failed_before, number, oldest_at, due_at in _rows(_OPEN, now, organization.pk):
        if state in _WORDS:
            counts["retrying" if state == State.QUEUED and failed_before else _WORDS[state]] += number
        if state == State.QUEUED:
            oldest.append(oldest_at)
            due += [due_at] if due_at else []
    return OpenWork(counts, min(oldest, default=None), min(due, default=None))


def _rows(sql: str, *values: int | datetime | None) -> list[tuple[Any, ...]]:
    """Written out, because composing these in Python takes longer than PostgreSQL takes to answer them."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


@dataclass(frozen=True)
class Finished:
    """What ended in some hours."""

    confirmed: int = 0
    failed: int = 0
    seconds_total: float = 0.0
    p95_seconds: float = 0.0

    @property
    def average_seconds(self) -> float:
        return self.seconds_total / self.confirmed if self.confirmed else 0.0

    @property
    def success_rate(self) -> float:
        ended = self.confirmed + self.failed
        return self.confirmed / ended if ended else 1.0


_FINISHED = """
SELECT confirmed, failed, seconds_total, latency FROM pems_sync_hourtally
WHERE organization_id = %s
  AND hour > coalesce(%s, '-infinity'::timestamptz) AND hour <= coalesce(%s, 'infinity'::timestamptz)
"""


def finished_between(organization: Organization, since: datetime | None, until: datetime | None) -> Finished:
    """Whole hours that the time from `since` to `until` touches."""
    rows = _rows(_FINISHED, organization.pk, since - timedelta(hours=1) if since else None, until)
    if not rows:
        return Finished()
    latency = [sum(column) for column in zip(*(row[3] for row in rows), strict=True)]
    return Finished(_sum(rows, 0), _sum(rows, 1), sum(row[2] for row in rows), percentile(latency, 0.95))


def _sum(rows: Sequence[tuple[Any, ...]], column: int) -> int:
    return sum(int(row[column]) for row in rows)


_LAST = """
SELECT recorded_at FROM pems_sync_journalentry
WHERE organization_id = %s AND wire_type = 'SYNC_SUCCESS'
  AND seq > (SELECT seq FROM pems_sync_journalhead WHERE organization_id = %s) - 2000
ORDER BY seq DESC LIMIT 1
"""
_LAST_HOUR = "SELECT max(hour) FROM pems_sync_hourtally WHERE organization_id = %s AND confirmed > 0"


def last_sync_at(organization: Organization) -> datetime | None:
    """The last confirmation: among the newest events, else, after a great many others, to the hour."""
    found = _rows(_LAST, organization.pk, organization.pk) or _rows(_LAST_HOUR, organization.pk)
    at: datetime | None = found[0][0]
    return at


def sync_status(
    organization: Organization, *, now: datetime, status: str | None, since: datetime | None, until: datetime | None
) -> dict[str, Any]:
    """Without dates `completed` counts everything ever, and averages are over 24 hours; with dates both are over the
    hours in between. `failed` and `deadLetters` are as things stand now. `status` leaves only that word's counts."""
    work = open_work(organization, now)
    dated = since is not None or until is not None
    recent = finished_between(organization, since if dated else now - timedelta(hours=24), until)
    completed = recent.confirmed if dated else _ever_confirmed(organization)
    counts = {**work.counts, "synced": completed}
    if status is not None:
        counts = {word: number if word == status else 0 for word, number in counts.items()}
    return {
        "totalQueued": counts["queued"] + counts["retrying"],
        "processing": counts["syncing"],
        "completed": counts["synced"],
        "failed": counts["failed"],
        "conflicts": counts["conflict"],
        "unknown": counts["verifying"],
        "deadLetters": counts["failed"],
        "avgSyncTime": round(recent.average_seconds, 3),
        "p95SyncTime": recent.p95_seconds,
        "oldestQueuedAge": _age(work.oldest_queued_at, now),
        "lastSyncAt": stamp(last_sync_at(organization)),
        "successRate": round(recent.success_rate, 4),
        "health": health(organization, work, recent, now),
        "paused": is_paused(organization),
        "breaker": breaking.state_of(organization.connection),
        "estimatedDrainSeconds": drain_seconds(organization, work.waiting, now),
    }


def _ever_confirmed(organization: Organization) -> int:
    sql = "SELECT coalesce(sum(confirmed), 0) FROM pems_sync_hourtally WHERE organization_id = %s"
    return int(_rows(sql, organization.pk)[0][0])


def _age(at: datetime | None, now: datetime) -> float | None:
    return round(max(0.0, (now - at).total_seconds()), 3) if at else None


def is_paused(organization: Organization) -> bool:
    """By a person, by the machine for the whole connection, or after a restore until PEMS has been read."""
    by_machine = organization.connection.paused_at or organization.restored_at
    return organization.paused_at is not None or by_machine is not None


def health(organization: Organization, work: OpenWork, recent: Finished, now: datetime) -> str:
    """`paused`: by somebody, or in a maintenance window. `down`: the breaker is open, or due work is not taken up.
    `degraded`: it goes, badly."""
    pems = organization.connection
    if is_paused(organization) or open_till(pems, now) is not None:
        return "paused"
    slow = (_age(work.oldest_due_at, now) or 0) > SLOW_AFTER_SECONDS
    untouched = organization.claimed_at is None or (now - organization.claimed_at).total_seconds() > SLOW_AFTER_SECONDS
    breaker = breaking.state_of(pems)
    if breaker is Breaker.OPEN or (slow and untouched) or not settings.ENABLE_WRITE_SYNC:
        return "down"
    resting = pems.held_until is not None and pems.held_until > now
    trying = breaker is not Breaker.CLOSED or breaking.is_starting_slowly(pems, now)
    troubled = trying or resting or slow or recent.success_rate < 0.95
    return "degraded" if troubled else "healthy"


def drain_seconds(organization: Organization, waiting: int, now: datetime) -> float | None:
    """How long what waits takes at the present pace of the connection, were it alone, from when it may be sent again: after
    a rest, or the end of a maintenance window. None while nothing is sent at all, or nobody knows when PEMS will answer."""
    if waiting == 0:
        return 0.0
    silent = breaking.state_of(organization.connection) is not Breaker.CLOSED
    if silent or is_paused(organization) or not settings.ENABLE_WRITE_SYNC:
        return None
    pems = organization.connection
    requests = math.ceil(waiting / _batch(pems, now))
    begins = max(now, pems.held_until or now, open_till(pems, now) or now)
    return round((begins - now).total_seconds() + requests / _rate(pems), 3)


def _rate(pems: Connection) -> float:
    """Requests per second. Nobody knows it without Redis: then the limit."""
    try:
        return pace_for(pems).rate()
    except PaceUnavailableError:
        return pems.requests_per_second


def _batch(pems: Connection, now: datetime) -> int:
    absent = pems.batch_absent_until is not None and pems.batch_absent_until > now
    return 1 if absent else min(pems.batch_size, int(settings.WRITE_SYNC_BATCH_SIZE))
