"""Is everything here as PEMS has it? Reads all pages, looks again at what differs, one record at a time, and repairs on
request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from pems_sync import events
from pems_sync.client.base import BrokenRow, Missing, Page, PemsRecord, ReadFailed
from pems_sync.differences import Difference, Kind, Report, Shown, Stored, Wanted, judge
from pems_sync.errors import PemsUnavailableError
from pems_sync.inbound.applying import apply, mark_gone, revive
from pems_sync.inbound.pages import Reader
from pems_sync.journal import unit_of_work
from pems_sync.models import InboundState, Job, Modification, Organization, Record
from pems_sync.models.job import JobKind
from pems_sync.services.rebasing import is_under_way
from pems_sync.states import IN_FLIGHT, State

log = structlog.get_logger(__name__)

MOST_SINGLE = 300
"""Records read one by one; beyond that the page is believed."""
MOST_TOLD = 200


def look_once(organization: Organization) -> Report:
    """The weekly look: told in the log and kept as a number. Raises as `reconcile`."""
    report = reconcile(organization)
    tell = log.warning if report.unexplained else log.info
    tell("reconciled", organization=organization.slug, compared=report.compared, differences=len(report.unexplained))
    return report


def reconcile(organization: Organization, *, repair: bool = False) -> Report:
    """Compare every record. `repair`: what PEMS shows is stored, what it does not know is given up, each after a read of
    its own. Raises PemsUnavailableError, SecretsUnavailableError, PaceUnavailableError."""
    job = _begin(organization)
    look = _Look(organization, Reader.of(organization))
    try:
        report = look.over_everything(repair=repair)
    except Exception as error:
        _end(job, look.report, failure=str(error))
        raise
    _end(job, report)
    return report


@dataclass
class _Look:
    """One look at all of an organization's records."""

    organization: Organization
    reader: Reader
    report: Report = field(default_factory=Report)
    began_at: datetime | None = None
    suspects: dict[str, Shown] = field(default_factory=dict)
    sighted: set[str] = field(default_factory=set)

    def over_everything(self, *, repair: bool) -> Report:
        self._turn_pages()
        present = Record.objects.for_organization(self.organization).present().values_list("pfa_id", flat=True)
        self.suspects |= {pfa_id: Missing() for pfa_id in present.iterator() if pfa_id not in self.sighted}
        for position, (pfa_id, shown) in enumerate(sorted(self.suspects.items())):
            read = position < MOST_SINGLE or (repair and isinstance(shown, Missing))
            self._face(pfa_id, shown, read=read, repair=repair)
        return self.report

    def _turn_pages(self) -> None:
        cursor = ""
        while True:
            page = self.reader.page(cursor=cursor)
            self.began_at = self.began_at or page.server_time
            self._compare(page)
            if page.next_cursor is None:
                return
            if page.next_cursor == cursor:
                raise PemsUnavailableError(f"{self.organization.slug}: PEMS repeats a page of its list.")
            cursor = page.next_cursor

    def _compare(self, page: Page) -> None:
        stored = _stored(self.organization, [row.pfa_id for row in page.records])
        for row in page.records:
            if judge(stored.get(row.pfa_id), row, (), began_at=None) is not None:
                self.suspects[row.pfa_id] = row
        self.suspects |= {row.pfa_id: row for row in page.broken}
        self.sighted.update([row.pfa_id for row in page.records] + [row.pfa_id for row in page.broken])
        self.report.compared += len(page.records) + len(page.broken)

    def _face(self, pfa_id: str, shown: Shown, *, read: bool, repair: bool) -> None:
        if self._judged(pfa_id, shown) is None:
            return  # it has arrived meanwhile
        if read and not isinstance(shown, BrokenRow):
            shown = self._read(pfa_id)
        found = self._judged(pfa_id, shown)
        if found is not None:
            repaired = repair and self._repair(pfa_id, shown)
            self.report.differences.append(Difference(pfa_id, *found, repaired=repaired))

    def _judged(self, pfa_id: str, shown: Shown) -> tuple[Kind, str] | None:
        stored = _stored(self.organization, [pfa_id]).get(pfa_id)
        return judge(stored, shown, _wanted(self.organization, pfa_id), began_at=self.began_at)

    def _read(self, pfa_id: str) -> Shown:
        found = self.reader.one(pfa_id)
        if isinstance(found, ReadFailed) and found.fault is not None:
            raise PemsUnavailableError(f"{self.organization.slug}: {found.message}")
        return BrokenRow(pfa_id, found.message) if isinstance(found, ReadFailed) else found

    def _repair(self, pfa_id: str, shown: Shown) -> bool:
        """Whether nothing sets the two apart any more."""
        record = Record.objects.for_organization(self.organization).filter(pfa_id=pfa_id).first()
        if isinstance(shown, PemsRecord):
            apply(self.organization, [shown])
            if record is not None and record.deleted_at is not None:
                revive(record, shown, actor="reconcile")
        elif isinstance(shown, Missing) and record is not None:
            mark_gone(record)
        return self._judged(pfa_id, shown) is None


def _stored(organization: Organization, pfa_ids: Sequence[str]) -> dict[str, Stored]:
    rows = Record.objects.for_organization(organization).filter(pfa_id__in=pfa_ids)
    columns = rows.values_list("pfa_id", "version", "content_hash", "deleted_at", "read_due_at")
    return {key: Stored(version, kept, gone is not None, due is not None) for key, version, kept, gone, due in columns}


def _wanted(organization: Organization, pfa_id: str) -> list[Wanted]:
    """Edits the machine will settle by itself."""
    rows = Modification.objects.for_organization(organization).filter(pfa_id=pfa_id)
    return [Wanted(is_under_way(row), row.changes) for row in rows.filter(state__in=[*sorted(IN_FLIGHT), State.QUEUED])]


def _begin(organization: Organization) -> Job:
    with unit_of_work() as work:
        return Job.objects.create(organization=organization, kind=JobKind.RECONCILE, started_at=work.now)


def _end(job: Job, report: Report, *, failure: str = "") -> None:
    with unit_of_work() as work:
        repaired = sum(each.repaired for each in report.differences)
        job.seen = job.total = report.compared
        job.changed, job.skipped = repaired, len(report.unexplained)
        job.errors = [{"pfaId": each.pfa_id, "message": f"{each.kind}: {each.detail}"} for each in report.unexplained]
        job.errors = job.errors[:MOST_TOLD] + ([{"pfaId": "", "message": failure}] if failure else [])
        job.finished_at = work.now
        job.save()
        after = {"compared": report.compared, "repaired": repaired, **report.by_kind()}
        about = events.ReconcileFinished(
            organization_id=job.organization_id, actor="reconcile", reason=failure[:500], after=after
        )
        work.record(about)
        if not failure:
            state, _ = InboundState.objects.get_or_create(organization=job.organization)
            InboundState.objects.filter(pk=state.pk).update(differences=len(report.unexplained))
