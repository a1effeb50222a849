"""The numbers of queue-metrics: open work by state, operation and priority; what ended in each minute of an hour."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max
from django.db.models.functions import TruncMinute

from pems_sync.api.status import open_work
from pems_sync.api.wire import stamp
from pems_sync.models import JournalEntry, Modification, Organization
from pems_sync.states import FINAL, State


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
