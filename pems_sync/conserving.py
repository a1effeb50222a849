"""I2, looked at each minute: is every edit that was accepted still accounted for, in one state or another?

What was accepted is counted by the hour, with the journal (`tallies.py`); what there is, from the rows themselves. Both
in one statement, so that a commit under way is in both counts or in neither.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import connection, transaction
from django.db.models import F, Q, Sum
from django.db.models.functions import Abs

from pems_sync.clock import database_now
from pems_sync.models import Conservation, HourTally, Organization
from pems_sync.tallies import nothing_delivered

log = structlog.get_logger(__name__)

CHECK_EVERY = timedelta(seconds=60)
_LOCK = 0x70656332  # "pec2": the advisory locks of this module
_CHECK, _RECOUNT = 1, 2

_COUNT = """
SELECT organization.id, organization.slug, coalesce(accepted.number, 0), coalesce(standing.by_state, '{}')::text,
       coalesce(accepted.number, 0) - coalesce(standing.number, 0)
FROM pems_sync_organization AS organization
LEFT JOIN (
    SELECT organization_id, sum(committed)::bigint AS number FROM pems_sync_hourtally GROUP BY 1
) AS accepted ON accepted.organization_id = organization.id
LEFT JOIN (
    SELECT organization_id, jsonb_object_agg(state, number) AS by_state, sum(number)::bigint AS number
    FROM (
        SELECT organization_id, state, count(*) AS number FROM pems_sync_modification
        WHERE committed_at IS NOT NULL GROUP BY 1, 2
    ) AS by_state GROUP BY 1
) AS standing ON standing.organization_id = organization.id
ORDER BY organization.id
"""
BY_JOURNAL = """
SELECT organization_id, date_trunc('hour', recorded_at, 'UTC') AS hour, count(*) AS number
FROM pems_sync_journalentry
WHERE kind = 'modification_queued' AND before ->> 'state' = 'draft' AND organization_id IS NOT NULL
GROUP BY 1, 2
"""
"""Edits accepted, by organization and hour, as the journal has them: the same rule as `tallies.is_commit`."""

_MISCOUNTED = f"""
SELECT coalesce(journal.organization_id, tally.organization_id), coalesce(journal.hour, tally.hour),
       coalesce(journal.number, 0) - coalesce(tally.committed, 0)
FROM ({BY_JOURNAL}) AS journal
FULL JOIN pems_sync_hourtally AS tally ON tally.organization_id = journal.organization_id AND tally.hour = journal.hour
WHERE coalesce(journal.number, 0) <> coalesce(tally.committed, 0)
"""  # noqa: S608  (no values in it)


@dataclass(frozen=True)
class _Counted:
    """One organization. `difference`: accepted less what the rows say."""

    organization_id: int
    slug: str
    committed: int
    by_state: dict[str, int]
    difference: int


def check_if_due() -> bool:
    """The look of this minute, taken by one of those who want to take it. Whether it was taken here."""
    with transaction.atomic():
        if not _first(_CHECK) or not due(database_now()):
            return False
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '30s'")
        check_all(database_now())
    return True


def due(now: datetime) -> bool:
    """Whether some organization was not looked at for a minute."""
    stale = Q(conservation=None) | Q(conservation__checked_at__lte=now - CHECK_EVERY)
    return Organization.objects.filter(stale).exists()


def check_all(now: datetime) -> list[Conservation]:
    """Counts every organization in one statement, and keeps the result.

    A difference that is news is held against the journal first. Where only the tallies lag behind it, as after workers
    of a release that did not count, they are counted anew, and no alarm is raised."""
    known = {row.organization_id: row for row in Conservation.objects.all()}
    counted = _count()
    news = [each.organization_id for each in counted if each.difference and _is_news(each, known)]
    if news and recount(news):
        counted = _count()
    rows = [_row(each, known.get(each.organization_id), now) for each in counted]
    columns = ["checked_at", "committed", "by_state", "difference", "off_since"]
    Conservation.objects.bulk_create(rows, update_conflicts=True, unique_fields=["organization"], update_fields=columns)
    return rows


def differences() -> int:
    """Edits unaccounted for by the last look, over all organizations."""
    return int(Conservation.objects.aggregate(all=Sum(Abs("difference")))["all"] or 0)


def recount(organization_ids: Collection[int]) -> int:
    """Counts the accepted edits of these organizations anew, from the journal. How many were not counted rightly.

    What is missing is added, not written over: commits that are counted at the same time lose nothing."""
    with transaction.atomic():
        _wait_for(_RECOUNT)
        with connection.cursor() as cursor:
            cursor.execute(_MISCOUNTED)
            wrong = [row for row in cursor.fetchall() if row[0] in organization_ids]
        empty = nothing_delivered()
        HourTally.objects.bulk_create(
            [HourTally(organization_id=key, hour=hour, latency=empty) for key, hour, _ in wrong], ignore_conflicts=True
        )
        for key, hour, missing in wrong:
            HourTally.objects.filter(organization=key, hour=hour).update(committed=F("committed") + missing)
    number: int = sum(abs(missing) for _, _, missing in wrong)
    if number:
        log.warning("accepted_edits_counted_anew", organizations=len({key for key, _, _ in wrong}), edits=number)
    return number


def _count() -> list[_Counted]:
    with connection.cursor() as cursor:
        cursor.execute(_COUNT)
        return [
            _Counted(key, slug, committed, json.loads(by_state), difference)
            for key, slug, committed, by_state, difference in cursor.fetchall()
        ]


def _is_news(each: _Counted, known: dict[int, Conservation]) -> bool:
    before = known.get(each.organization_id)
    return before is None or before.difference != each.difference


def _row(each: _Counted, before: Conservation | None, now: datetime) -> Conservation:
    off_since = before.off_since if before else None
    if each.difference and off_since is None:
        log.error("edits_unaccounted_for", organization=each.slug, difference=each.difference, by_state=each.by_state)
    elif off_since is not None and not each.difference:
        log.error("edits_accounted_for_again", organization=each.slug, off_since=off_since.isoformat())
    return Conservation(
        organization_id=each.organization_id, checked_at=now, committed=each.committed, by_state=each.by_state,
        difference=each.difference, off_since=(off_since or now) if each.difference else None,
    )  # fmt: skip


def _first(what: int) -> bool:
    """Nobody else is at it. Until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [_LOCK, what])
        return bool(cursor.fetchone()[0])


def _wait_for(what: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK, what])
