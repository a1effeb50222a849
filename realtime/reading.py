"""The hub's way to PostgreSQL: a few threads of its own, so that neither requests nor sockets wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from typing import ParamSpec, TypeVar

from django.db import connection
from django.utils import timezone

from pems_sync.events import OrganizationRestarted
from pems_sync.models import JournalEntry, JournalHead
from realtime import frames

P = ParamSpec("P")
R = TypeVar("R")
THREADS = 4
REMEMBERED = timedelta(hours=24)
"""How long a client that last listened before a restore is told to begin anew."""


@cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="realtime")


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Runs it in a thread that may use the database; gives the connection back to the pool afterwards."""

    def run() -> R:
        try:
            return function(*args, **kwargs)
        finally:
            connection.close()

    return await asyncio.get_running_loop().run_in_executor(_readers(), run)


def last_seqs(organization_ids: Iterable[int]) -> dict[int, int]:
    """The last socket event of each organization; those without a journal are absent."""
    heads = JournalHead.objects.filter(organization_id__in=organization_ids)
    return {found: seq for found, seq in heads.values_list("organization_id", "seq") if found is not None}


def restored_at_seq(organization_id: int) -> int | None:
    """Where the journal went on after a restore of the last day: later numbers were once given to events that are lost."""
    since = timezone.now() - REMEMBERED
    told = JournalEntry.objects.filter(organization_id=organization_id, pfa_id="", recorded_at__gte=since)
    restarts = told.filter(kind=OrganizationRestarted.kind).order_by("position").values_list("after", flat=True)
    return next((int(after["seq"]) for after in restarts[:1] if after), None)


def events_after(organization_id: int, slug: str, seq: int, limit: int) -> list[str]:
    """Encoded events from seq + 1 on, dense and in order: seq is allotted and committed under the head's lock."""
    entries = JournalEntry.objects.filter(organization_id=organization_id, seq__gt=seq).order_by("seq")
    columns = entries.values_list("seq", "wire_type", "pfa_id", "modification_id", "recorded_at", "details")
    return [frames.event(slug, *row) for row in columns[:limit]]
