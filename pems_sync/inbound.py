"""PEMS to here: pages of the list, applied forward. An unchanged row writes nothing; a broken one never stops the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import sleep

import structlog
from django.db import IntegrityError

from pems_sync import events, proof
from pems_sync.client.base import BrokenRow, Missing, Page, PemsClient, PemsRecord, ReadFailed
from pems_sync.client.connect import client_for, pace_for
from pems_sync.client.pace import Pace
from pems_sync.errors import PemsUnavailableError
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import Job, Modification, Organization, Record
from pems_sync.models.job import JobKind
from pems_sync.records import Moved, is_forward, remember, shelf_for
from pems_sync.services import connections
from pems_sync.services.moves import Moves, lock_lanes
from pems_sync.services.progress import report_progress
from pems_sync.services.rebasing import is_under_way, rebase_open
from pems_sync.services.settlement import bury_record, portions, tell_of_foreign_changes
from pems_sync.states import State

log = structlog.get_logger(__name__)

PAGE_ROWS = 1000
TRIES_PER_PAGE = 5


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
    try:
        _turn_pages(organization, client, pace, result)
    except PemsUnavailableError as error:
        _finish(organization, job, result, failure=error.message)
        raise
    _finish(organization, job, result)
    return result


def _turn_pages(organization: Organization, client: PemsClient, pace: Pace, result: Pulled) -> None:
    cursor: str | None = None
    while True:
        page = _page(organization, client, pace, cursor)
        result.pages += 1
        result.seen += len(page.records) + len(page.broken)
        result.broken += page.broken
        result.changed += apply(organization, page.records)
        if page.next_cursor is None or page.next_cursor == cursor:
            return
        cursor = page.next_cursor


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
    changed = 0
    for portion in portions(
        news, record_id=lambda row: known[row.pfa_id].pk if row.pfa_id in known else 0, own_entries=1
    ):
        changed += _apply_some(organization, portion)
        proof.weigh(organization, portion)
    return changed


def _is_news(record: Record, row: PemsRecord) -> bool:
    return is_forward(record, version=row.version, hash_seen=row.content_hash)


def _apply_some(organization: Organization, news: Sequence[PemsRecord]) -> int:
    try:
        return _store(organization, news)
    except IntegrityError:  # another pull created one of these records at the same time: it is known now
        return _store(organization, news)


@deadlock_retried
def _store(organization: Organization, news: Sequence[PemsRecord]) -> int:
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
    _face_open(work, [move.record for move in shelf.moved], shelf.moved)
    shelf.save()
    return len(shelf.moved)


def _face_open(work: UnitOfWork, records: Sequence[Record], moved: Sequence[Moved]) -> None:
    """What is open on these records looks at them. Under way: classified when it settles, as what moved may be its own."""
    lanes = lock_lanes([record.pk for record in records])
    busy = {row.record_id for row in lanes if is_under_way(row)}
    moves = Moves(work)
    rebase_open(moves, records, lanes, actor="inbound")
    for move in moved:
        if move.record.pk not in busy:
            tell_of_foreign_changes(work, move.record, move.before, {})
    jobs = {row.job_id for row in moves.rows.values() if row.job_id}
    moves.flush()
    report_progress(work, jobs)


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
        _face_open(work, list(shelf.records.values()), ())


def _begin(organization: Organization, author_id: int | None) -> Job:
    with unit_of_work() as work:
        return Job.objects.create(
            organization=organization, kind=JobKind.PULL, author_id=author_id, started_at=work.now
        )


def _finish(organization: Organization, job: Job, result: Pulled, *, failure: str = "") -> None:
    with unit_of_work() as work:
        job.seen, job.total, job.changed, job.skipped = result.seen, result.seen, result.changed, len(result.broken)
        job.errors = [{"pfaId": row.pfa_id, "message": row.message} for row in result.broken[:200]]
        job.errors += [{"pfaId": "", "message": failure}] if failure else []
        job.finished_at = work.now
        job.save()
        if not failure:
            Organization.objects.filter(pk=organization.pk).update(pulled_at=work.now)
        after = {"seen": result.seen, "changed": result.changed, "skipped": len(result.broken)}
        event = events.PullFinished(organization_id=organization.pk, actor="inbound", reason=failure[:500], after=after)
        work.record(event)
