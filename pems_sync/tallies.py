"""Adds finished work to its organization's hour. Called with the journal, under the lock of the organization's head."""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime

from pems_sync.events import Event, ModificationBuried, ModificationConfirmed, ModificationConflicted
from pems_sync.models.tally import LATENCY_BUCKETS_SECONDS, HourTally


def count(organization_id: int, events: list[Event], now: datetime) -> None:
    confirmed = [event.seconds for event in events if isinstance(event, ModificationConfirmed)]
    failed = sum(isinstance(event, ModificationBuried) for event in events)
    conflicts = sum(isinstance(event, ModificationConflicted) for event in events)
    if not (confirmed or failed or conflicts):
        return
    empty = [0] * (len(LATENCY_BUCKETS_SECONDS) + 1)
    hour = now.replace(minute=0, second=0, microsecond=0)
    tally, _ = HourTally.objects.get_or_create(organization_id=organization_id, hour=hour, defaults={"latency": empty})
    for seconds in confirmed:
        tally.latency[bisect_left(LATENCY_BUCKETS_SECONDS, seconds)] += 1
    tally.confirmed += len(confirmed)
    tally.seconds_total += sum(confirmed)
    tally.failed += failed
    tally.conflicts += conflicts
    tally.save()


def percentile(latency: list[int], share: float) -> float:
    """The upper bound in seconds of the bucket in which `share` (0..1) of the counted deliveries were done."""
    wanted = sum(latency) * share
    passed = 0
    for bound, number in zip((*LATENCY_BUCKETS_SECONDS, LATENCY_BUCKETS_SECONDS[-1]), latency, strict=True):
        passed += number
        if number and passed >= wanted:
            return bound
    return 0.0
