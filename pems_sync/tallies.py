"""Adds finished work to its organization's hour. Called with the journal, under the lock of the organization's head."""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime

from django.db import connection

from pems_sync.events import (
    Event,
    ModificationBuried,
    ModificationConfirmed,
    ModificationConflicted,
    ModificationQueued,
)
from pems_sync.models.tally import LATENCY_BUCKETS_SECONDS
from pems_sync.states import State

_ADD = """
INSERT INTO pems_sync_hourtally AS known (organization_id, hour, committed, confirmed, failed, conflicts, seconds_total, latency)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (organization_id, hour) DO UPDATE SET
    committed = known.committed + EXCLUDED.committed,
    confirmed = known.confirmed + EXCLUDED.confirmed, failed = known.failed + EXCLUDED.failed,
    conflicts = known.conflicts + EXCLUDED.conflicts, seconds_total = known.seconds_total + EXCLUDED.seconds_total,
    latency = ARRAY(
        SELECT old + new FROM unnest(known.latency, EXCLUDED.latency) WITH ORDINALITY AS both_of(old, new, place)
        ORDER BY place
    )
"""


def count(organization_id: int, events: list[Event], now: datetime) -> None:
    committed = sum(is_commit(event) for event in events)
    confirmed = [event.seconds for event in events if isinstance(event, ModificationConfirmed)]
    failed = sum(isinstance(event, ModificationBuried) for event in events)
    conflicts = sum(isinstance(event, ModificationConflicted) for event in events)
    if not (committed or confirmed or failed or conflicts):
        return
    latency = nothing_delivered()
    for seconds in confirmed:
        latency[bisect_left(LATENCY_BUCKETS_SECONDS, seconds)] += 1
    hour = now.replace(minute=0, second=0, microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(
            _ADD, [organization_id, hour, committed, len(confirmed), failed, conflicts, sum(confirmed), latency]
        )


def is_commit(event: Event) -> bool:
    """An edit is accepted: it enters the queue for the first time, from a desk or made by a rollback or an undo (I2)."""
    return isinstance(event, ModificationQueued) and (event.before or {}).get("state") == State.DRAFT


def nothing_delivered() -> list[int]:
    """The latency of an hour in which nothing was confirmed."""
    return [0] * (len(LATENCY_BUCKETS_SECONDS) + 1)


def percentile(latency: list[int], share: float) -> float:
    """The upper bound in seconds of the bucket in which `share` (0..1) of the counted deliveries were done."""
    wanted = sum(latency) * share
    passed = 0
    for bound, number in zip((*LATENCY_BUCKETS_SECONDS, LATENCY_BUCKETS_SECONDS[-1]), latency, strict=True):
        passed += number
        if number and passed >= wanted:
            return bound
    return 0.0
