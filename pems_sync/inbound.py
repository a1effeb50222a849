"""PEMS to here: pages of the list, applied forward. An unchanged row writes nothing; a broken one never stops the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import sleep

import structlog

from pems_sync import events
from pems_sync.client.base import BrokenRow, Missing, Page, PemsClient, PemsRecord, ReadFailed
from pems_sync.client.connect import client_for, pace_for
from pems_sync.client.pace import Pace
from pems_sync.errors import PemsUnavailableError
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import Job, Modification, Organization, Record
from pems_sync.models.job import JobKind
from pems_sync.records import is_forward, remember, shelf_for
from pems_sync.services import connections
from pems_sync.services.rebasing import rebase_open
from pems_sync.services.settling import bury_record, tell_of_foreign_changes
from pems_sync.services.transitions import Moves, lock_lanes
from pems_sync.states import State

log = structlog.get_logger(__name__)

PAGE_ROWS = 1000
TRIES_PER_PAGE = 5
ROWS_PER_TRANSACTION = 400  # each changed row is a journal entry; a transaction carries at most 500


@dataclass
class Pulled:
    """What a pull saw and did."""

    seen: int = 0
    changed: int = 0
    broken: list[BrokenRow] = field(default_factory=list)
    pages: int = 0


def pull(organization: Organization, *, author_id: int | None = None) -> Pulled:
    """Every record of the organization, all pages. Raises PemsUnavailableError when a page cannot be had; what was
    applied before stays. Raises SecretsUnavailableError."""
    connection = organization.connection
    client, pace = client_for(connection), pace_for(connection)
    job = _begin(organization, author_id)
    result = Pulled()
    cursor: str | None = None
    while True:
        page = _page(organization, client, pace, cursor)
        result.pages += 1
        result.seen += len(page.records) + len(page.broken)
        result.broken += page.broken
        result.changed += apply(organization, page.records)
        if page.next_cursor is None or page.next_cursor == cursor:
            break
        cursor = page.next_cursor
    _finish(organization, job, result)
    return result


def _page(organization: Organization, client: PemsClient, pace: Pace, cursor: str | None) -> Page:
    failure = "nothing was tried"
    for attempt in range(TRIES_PER_PAGE):
        if not pace.wait(inbound=_edits_wait(organization)):
            failure = "the pace had no room"
            continue
        page = client.page(organization_code=organization.code, cursor=cursor, limit=PAGE_ROWS)
        if isinstance(page, Page):
            connections.answered(organization.connection)
            return page
        failure = page.message
        _note_fault(organization, page)
        sleep(min(2.0**attempt, 10.0))
    raise PemsUnavailableError(
        f"{organization.slug}: {failure}. Check that PEMS runs at {organization.connection.base_url}, then pull again."
    )


def _note_fault(organization: Organization, failed: ReadFailed) -> None:
    log.warning("page_failed", organization=organization.slug, reason=failed.message)
    if failed.fault is not None:
        connections.faulted(organization.connection, failed.fault)


def _edits_wait(organization: Organization) -> bool:
    """While edits wait, inbound takes at most a fifth of the pace."""
    return Modification.objects.filter(organization__connection=organization.connection_id, state=State.QUEUED).exists()


def apply(organization: Organization, shown: Sequence[PemsRecord]) -> int:
    """Store the rows that are news, with what that means for open edits. How many were."""
    latest = {row.pfa_id: row for row in sorted(shown, key=lambda row: row.version)}
    known = {row.pfa_id: row for row in Record.objects.for_organization(organization).filter(pfa_id__in=latest)}
    news = [row for pfa_id, row in latest.items() if pfa_id not in known or _is_news(known[pfa_id], row)]
    return sum(
        _apply_some(organization, news[start : start + ROWS_PER_TRANSACTION])
        for start in range(0, len(news), ROWS_PER_TRANSACTION)
    )


def _is_news(record: Record, row: PemsRecord) -> bool:
    return is_forward(record, version=row.version, hash_seen=row.content_hash)


@deadlock_retried
def _apply_some(organization: Organization, news: Sequence[PemsRecord]) -> int:
    with unit_of_work() as work:
        fresh = _create_missing(organization, news)
        rest = [row for row in news if row.pfa_id not in fresh]
        return len(fresh) + _move_known(work, organization, rest)


def _create_missing(organization: Organization, news: Sequence[PemsRecord]) -> set[str]:
    known = set(
        Record.objects.for_organization(organization)
        .filter(pfa_id__in=[row.pfa_id for row in news])
        .values_list("pfa_id", flat=True)
    )
    rows = [
        Record(
            organization=organization, pfa_id=row.pfa_id, version=row.version, fields=row.fields,
            content_hash=row.content_hash, changed_at=row.updated_at, changed_by=row.updated_by,
        )
        for row in news
        if row.pfa_id not in known
    ]  # fmt: skip
    Record.objects.bulk_create(rows)
    remember(rows, {})
    return {row.pfa_id for row in rows}


def _move_known(work: UnitOfWork, organization: Organization, news: Sequence[PemsRecord]) -> int:
    ids = Record.objects.for_organization(organization).filter(pfa_id__in=[row.pfa_id for row in news])
    shelf = shelf_for(ids.values_list("pk", flat=True))
    by_pfa_id = {record.pfa_id: record for record in shelf.records.values()}
    for row in news:
        shelf.see(by_pfa_id[row.pfa_id], row)
    lanes = lock_lanes([move.record.pk for move in shelf.moved])
    moves = Moves(work)
    rebase_open(moves, [move.record for move in shelf.moved], lanes, actor="inbound")
    shelf.save()
    tell_of_foreign_changes(work, shelf.moved, {})
    moves.flush()
    return len(shelf.moved)


def refresh(record: Record) -> None:
    """Read one record and store it forward: it was confirmed without being shown."""
    organization = record.organization
    client, pace = client_for(organization.connection), pace_for(organization.connection)
    if not pace.wait(patience_seconds=10):
        return
    found = client.read(organization_code=organization.code, pfa_id=record.pfa_id)
    if isinstance(found, PemsRecord):
        apply(organization, [found])
        Record.objects.filter(pk=record.pk, version__lte=found.version).update(read_due_at=None)
    elif isinstance(found, Missing):
        mark_gone(record)


@deadlock_retried
def mark_gone(record: Record) -> None:
    """PEMS no longer knows it: open edits of it become conflicts, drafts are warned."""
    with unit_of_work() as work:
        shelf = shelf_for([record.pk])
        bury_record(shelf.records[record.pk], work)
        moves = Moves(work)
        rebase_open(moves, shelf.records.values(), lock_lanes([record.pk]), actor="inbound")
        moves.flush()


def _begin(organization: Organization, author_id: int | None) -> Job:
    with unit_of_work() as work:
        return Job.objects.create(
            organization=organization, kind=JobKind.PULL, author_id=author_id, started_at=work.now
        )


def _finish(organization: Organization, job: Job, result: Pulled) -> None:
    with unit_of_work() as work:
        job.seen, job.total, job.changed, job.skipped = result.seen, result.seen, result.changed, len(result.broken)
        job.errors = [{"pfaId": row.pfa_id, "message": row.message} for row in result.broken[:200]]
        job.finished_at = work.now
        job.save()
        Organization.objects.filter(pk=organization.pk).update(pulled_at=work.now)
        after = {"seen": result.seen, "changed": result.changed, "skipped": len(result.broken)}
        work.record(events.PullFinished(organization_id=organization.pk, actor="inbound", after=after))
