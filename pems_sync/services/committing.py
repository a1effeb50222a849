"""write-sync: my drafts become committed modifications, in one transaction with their journal entries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import F

from pems_sync import dispatch, events, validation
from pems_sync.drift import moved_fields
from pems_sync.fields import FIELDS
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import Job, Membership, Modification, Record
from pems_sync.models.job import JobKind
from pems_sync.services.moves import Moves, lock_lanes
from pems_sync.services.progress import report_progress
from pems_sync.services.rebasing import advance_alone, is_under_way
from pems_sync.services.transitions import rank, subject
from pems_sync.states import State, holds_lane
from pems_sync.validation import Violation

MOST_IN_ONE_TRANSACTION = 1000


@dataclass
class Committed:
    """`rejected`: by modification id, what is wrong. The job is None when nothing was queued."""

    job: Job | None = None
    queued: int = 0
    rejected: dict[UUID, list[dict[str, str]]] = field(default_factory=dict)


def commit(
    *, membership: Membership, modification_ids: Sequence[UUID] | None = None, priority: int = 0, reason: str = ""
) -> Committed:
    """Queue my drafts: those named, or all of them. Up to 1,000 are one transaction; more go in several, one job.

    A draft that breaks a rule stays a draft and is reported; one at risk becomes a conflict instead of being refused.
    """
    mine = Modification.objects.drafts().filter(organization=membership.organization, author=membership.user)
    wanted = mine if modification_ids is None else mine.filter(pk__in=modification_ids)
    ids = list(wanted.order_by("saved_at", "pk").values_list("pk", flat=True))
    result = Committed()
    known = set(ids)
    for missing in dict.fromkeys(modification_ids or ()):
        if missing not in known:
            result.rejected[missing] = [_NOT_A_DRAFT]
    for start in range(0, len(ids), MOST_IN_ONE_TRANSACTION):
        some = _commit_some(membership, ids[start : start + MOST_IN_ONE_TRANSACTION], priority, reason, result.job)
        result = Committed(some.job, result.queued + some.queued, {**result.rejected, **some.rejected})
    return result


_NOT_A_DRAFT = {"code": "NOT_A_DRAFT", "message": "This is not an open draft of yours."}


@deadlock_retried
def _commit_some(membership: Membership, ids: list[UUID], priority: int, reason: str, job: Job | None) -> Committed:
    result = Committed(job)
    with unit_of_work() as work:
        record_ids = list(Modification.objects.filter(pk__in=ids).values_list("record_id", flat=True))
        records = {record.pk: record for record in Record.objects.locked(record_ids)}
        rows = lock_lanes(record_ids)
        chosen = set(ids)
        drafts = {row.pk: row for row in rows if row.pk in chosen and row.state == State.DRAFT}
        result.rejected |= {
            taken: [_NOT_A_DRAFT] for taken in ids if taken not in drafts
        }  # by a commit at the same time
        valid = [row for row in drafts.values() if not _refused(row, records[row.record_id], membership, result)]
        if valid:
            result.job = _job(membership, job, work, len(valid), reason)
            result.queued = len(valid)
            Commit(work, records, rows, result.job, priority, reason).run(valid)
        dispatch.ring_on_commit(membership.organization.connection_id)
    return result


def _refused(row: Modification, record: Record, membership: Membership, result: Committed) -> bool:
    errors = [*_not_permitted(row, membership)]
    if not row.at_risk and record.deleted_at is None:
        errors += validation.split(validation.violations_of(record.fields, row.changes), row.changes)[0]
    if errors:
        result.rejected[row.pk] = [error.as_wire() for error in errors]
    return bool(errors)


def _not_permitted(row: Modification, membership: Membership) -> list[Violation]:
    return [
        Violation(name, "FIELD_NOT_EDITABLE", f"{name} may not be edited by you.", frozenset({name}))
        for name in row.changes
        if FIELDS[name].permission not in membership.permissions
    ]


def _job(membership: Membership, job: Job | None, work: UnitOfWork, more: int, reason: str) -> Job:
    if job is None:
        return Job.objects.create(
            organization=membership.organization, kind=JobKind.WRITE_SYNC, author=membership.user,
            reason=reason, total=more, started_at=work.now,
        )  # fmt: skip
    Job.objects.filter(pk=job.pk).update(total=F("total") + more, finished_at=None)
    return job


@dataclass
class Commit:
    """The commit of some valid drafts, with their records and lanes locked."""

    work: UnitOfWork
    records: dict[int, Record]
    rows: list[Modification]
    job: Job
    priority: int
    reason: str

    def run(self, drafts: list[Modification]) -> None:
        """First all are queued, then each faces the stored record: two transitions, in the table as in the journal."""
        self.moves = Moves(self.work)
        lanes: dict[int, list[Modification]] = defaultdict(list)
        for row in self.rows:
            if holds_lane(State(row.state), row.dead_reason):
                lanes[row.record_id].append(row)
        for draft in drafts:
            lane = sorted(lanes[draft.record_id], key=lambda row: (row.queued_at or self.work.now, str(row.pk)))
            self._queue(draft, lane[-1] if lane else None)
        jobs = {row.job_id for row in self.moves.rows.values() if row.job_id and row.state == State.SUPERSEDED}
        self._save(drafts)
        for draft in drafts:
            self._meet(draft, lanes[draft.record_id])
        jobs |= {row.job_id for row in self.moves.rows.values() if row.job_id}
        self.moves.flush()
        report_progress(self.work, jobs)

    def _save(self, drafts: list[Modification]) -> None:
        self.moves.flush()

    def _queue(self, draft: Modification, tail: Modification | None) -> None:
        before = self.moves.move(draft, State.QUEUED)
        draft.job, draft.reason = self.job, self.reason or draft.reason
        draft.priority, draft.committed_at, draft.queued_at = self.priority, self.work.now, self.work.now
        draft.authorised_by, draft.at_risk = draft.author, []
        if tail is not None and may_fold(tail, draft, self.records[draft.record_id]):
            self._fold(draft, tail)
        draft.rank_at = rank(draft.queued_at or self.work.now, draft.priority)
        after = {"state": State.QUEUED, "changes": draft.changes}
        self.work.record(
            events.ModificationQueued(
                **subject(draft, draft.author.username),
                before=before,
                after=after,
                reason=draft.reason,
                job_id=self.job.pk,
            )
        )

    def _fold(self, draft: Modification, tail: Modification) -> None:
        """The later one carries both: earliest queued time, highest priority, oldest base per field."""
        before = self.moves.move(tail, State.SUPERSEDED)
        tail.superseded_by = draft
        draft.changes = {**tail.changes, **draft.changes}
        draft.base = {**draft.base, **tail.base}
        draft.queued_at = min(tail.queued_at or self.work.now, self.work.now)
        draft.priority = max(tail.priority, draft.priority)
        draft.base_version = min(tail.base_version, draft.base_version)
        draft.expected_version = tail.expected_version
        draft.not_before, draft.waits_for = tail.not_before, tail.waits_for
        after = {"state": State.SUPERSEDED, "supersededBy": str(draft.pk)}
        self.work.record(
            events.ModificationSuperseded(**subject(tail, draft.author.username), before=before, after=after)
        )

    def _meet(self, draft: Modification, lane: list[Modification]) -> None:
        """Face the stored record now, unless a head under way still has to settle: what moved may be its own write."""
        if not any(is_under_way(row) for row in lane):
            advance_alone(self.moves, draft, self.records[draft.record_id], actor=draft.author.username)
            draft.auto_merged = False  # the planner's own base was still whole, or a person is asked


def may_fold(tail: Modification, draft: Modification, record: Record) -> bool:
    """Only into an edit that has never left and has the same author and operation (PROTOCOL.md, Lanes); and only where
    the two do no harm to each other: a draft at risk goes to a person alone, and together they must be valid."""
    never_sent = tail.state == State.QUEUED and not tail.exposed and tail.attempts == 0 and tail.lease_epoch == 0
    alike = tail.author_id == draft.author_id and tail.operation == draft.operation and not draft.is_delete
    if not never_sent or not alike or record.deleted_at is not None or moved_fields(draft.base, record.fields):
        return False
    both = {**tail.changes, **draft.changes}
    return not validation.split(validation.violations_of(record.fields, both), both)[0]
