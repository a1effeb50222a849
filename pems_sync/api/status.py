"""The numbers of sync-status and queue-metrics. None of them looks at finished rows: open ones are counted by their
partial index, finished ones come from the hourly tallies (F7)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Min, Q, Sum
from django.db.models.functions import TruncMinute

from pems_sync.api.wire import STATUS_WORDS, having_status, stamp
from pems_sync.models import Connection, HourTally, JournalEntry, JournalHead, Modification, Organization
from pems_sync.states import FINAL, State
from pems_sync.tallies import percentile

SLOW_AFTER_SECONDS = 120
_OPEN_WORDS = tuple(word for word in STATUS_WORDS if word not in {"draft", *map(str, FINAL), "synced"})
_LOOK_BACK = 2000


@dataclass(frozen=True)
class OpenWork:
    """What is committed and not finished."""

    counts: dict[str, int]
    oldest_queued_at: datetime | None
    oldest_due_at: datetime | None

    @property
    def waiting(self) -> int:
        return self.counts["queued"] + self.counts["retrying"]


def open_work(organization: Organization, now: datetime) -> OpenWork:
    rows = Modification.objects.for_organization(organization).exclude(state__in=sorted(FINAL))
    due = Q(not_before=None) | Q(not_before__lte=now)
    found: dict[str, Any] = rows.aggregate(
        **{word: Count("pk", filter=having_status(word)) for word in _OPEN_WORDS},
        oldest=Min("queued_at", filter=Q(state=State.QUEUED)),
        due=Min("queued_at", filter=Q(state=State.QUEUED, is_head=True) & due),
    )
    return OpenWork({word: found[word] for word in _OPEN_WORDS}, found["oldest"], found["due"])


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


def finished_between(organization: Organization, since: datetime | None, until: datetime | None) -> Finished:
    """Whole hours that the time from `since` to `until` touches."""
    tallies = HourTally.objects.filter(organization=organization)
    if since:
        tallies = tallies.filter(hour__gt=since - timedelta(hours=1))
    if until:
        tallies = tallies.filter(hour__lte=until)
    rows = list(tallies.values_list("confirmed", "failed", "seconds_total", "latency"))
    if not rows:
        return Finished()
    latency = [sum(column) for column in zip(*(row[3] for row in rows), strict=True)]
    return Finished(_sum(rows, 0), _sum(rows, 1), sum(row[2] for row in rows), percentile(latency, 0.95))


def _sum(rows: Sequence[tuple[Any, ...]], column: int) -> int:
    return sum(int(row[column]) for row in rows)


def last_sync_at(organization: Organization) -> datetime | None:
    """The last confirmation: among the newest events, else, after a great many others, to the hour."""
    head = JournalHead.objects.filter(organization=organization).values_list("seq", flat=True).first() or 0
    newest = JournalEntry.objects.filter(organization=organization, seq__gt=head - _LOOK_BACK, wire_type="SYNC_SUCCESS")
    at = newest.order_by("-seq").values_list("recorded_at", flat=True).first()
    if at is not None or head <= _LOOK_BACK:
        return at
    hours = HourTally.objects.filter(organization=organization, confirmed__gt=0)
    last: datetime | None = hours.aggregate(last=Max("hour"))["last"]
    return last


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
        "breaker": "closed",
        "estimatedDrainSeconds": drain_seconds(organization, work.waiting, now),
    }


def _ever_confirmed(organization: Organization) -> int:
    return HourTally.objects.filter(organization=organization).aggregate(all=Sum("confirmed"))["all"] or 0


def _age(at: datetime | None, now: datetime) -> float | None:
    return round(max(0.0, (now - at).total_seconds()), 3) if at else None


def is_paused(organization: Organization) -> bool:
    """By a person, or by the machine for the whole connection."""
    return organization.paused_at is not None or organization.connection.paused_at is not None


def health(organization: Organization, work: OpenWork, recent: Finished, now: datetime) -> str:
    """`down`: PEMS was not reached several times in a row, or due work is not taken up. `degraded`: it goes, badly."""
    connection = organization.connection
    if is_paused(organization):
        return "paused"
    slow = (_age(work.oldest_due_at, now) or 0) > SLOW_AFTER_SECONDS
    untouched = organization.claimed_at is None or (now - organization.claimed_at).total_seconds() > SLOW_AFTER_SECONDS
    if connection.fault_streak >= 3 or (slow and untouched) or not settings.ENABLE_WRITE_SYNC:
        return "down"
    resting = connection.held_until is not None and connection.held_until > now
    troubled = connection.fault_streak > 0 or resting or slow or recent.success_rate < 0.95
    return "degraded" if troubled else "healthy"


def drain_seconds(organization: Organization, waiting: int, now: datetime) -> float | None:
    """How long what waits takes at the pace of the connection, were it alone. None while nothing is sent at all."""
    if waiting == 0:
        return 0.0
    if is_paused(organization) or not settings.ENABLE_WRITE_SYNC:
        return None
    connection = organization.connection
    requests = math.ceil(waiting / _batch(connection, now))
    rest = (connection.held_until - now).total_seconds() if connection.held_until else 0.0
    return round(max(0.0, rest) + requests / connection.requests_per_second, 3)


def _batch(connection: Connection, now: datetime) -> int:
    absent = connection.batch_absent_until is not None and connection.batch_absent_until > now
    return 1 if absent else min(connection.batch_size, int(settings.WRITE_SYNC_BATCH_SIZE))


def queue_metrics(organization: Organization, now: datetime) -> dict[str, Any]:
    committed = Modification.objects.for_organization(organization).exclude(state__in=sorted({*FINAL, State.DRAFT}))
    return {
        "byStatus": open_work(organization, now).counts,
        "byOperation": _counted(committed.order_by().values_list("operation").annotate(Count("pk"))),
        "byPriority": _counted(committed.order_by().values_list("priority").annotate(Count("pk"))),
        "throughput": _last_hour(organization, now),
    }


def _counted(pairs: Iterable[tuple[Any, ...]]) -> dict[str, int]:
    return {str(value): number for value, number in sorted(pairs)}


def _last_hour(organization: Organization, now: datetime) -> list[dict[str, Any]]:
    """Confirmed and failed by minute, sixty of them."""
    first = now.replace(second=0, microsecond=0) - timedelta(minutes=59)
    ended = JournalEntry.objects.filter(
        organization=organization, position__gte=_position_at(organization, first), recorded_at__gte=first
    )
    kinds = {"modification_confirmed": "confirmed", "modification_buried": "failed"}
    rows = ended.filter(kind__in=kinds).annotate(minute=TruncMinute("recorded_at")).order_by()
    found = {
        (minute, kinds[kind]): number
        for minute, kind, number in rows.values_list("minute", "kind").annotate(Count("pk"))
    }
    minutes = [first + timedelta(minutes=passed) for passed in range(60)]
    return [
        {"minute": stamp(at), "confirmed": found.get((at, "confirmed"), 0), "failed": found.get((at, "failed"), 0)}
        for at in minutes
    ]


def _position_at(organization: Organization, at: datetime) -> int:
    """The first journal position recorded at or after `at`. Positions are dense and grow with time: halve."""
    entries = JournalEntry.objects.filter(organization=organization)
    low, high = 1, (entries.aggregate(last=Max("position"))["last"] or 0) + 1
    while low < high:
        middle = (low + high) // 2
        seen_at = entries.filter(position=middle).values_list("recorded_at", flat=True).first()
        if seen_at is None or seen_at >= at:
            high = middle
        else:
            low = middle + 1
    return low
