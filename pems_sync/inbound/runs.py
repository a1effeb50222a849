"""Where a pull stands: one at a time per organization, its cursor kept with each page, its end alone moves `seen_until`
(N1, N2). All times by the database's clock, but `since` and `until`, which are PEMS's."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, QuerySet

from pems_sync import crashpoints, events
from pems_sync.client.base import BrokenRow, Page
from pems_sync.clock import database_now
from pems_sync.inbound import tombstones
from pems_sync.inbound.pages import LONGEST_PAUSE_SECONDS, WAIT_SECONDS
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import InboundState, Job, Organization
from pems_sync.models.job import JobKind
from pems_sync.services.reopening import swept

MOST_BROKEN = 200
_BEYOND_A_REQUEST = timedelta(seconds=WAIT_SECONDS + LONGEST_PAUSE_SECONDS)
"""A lease outlives a wait for a slot and the request after it; renewed then, it outlives a pause, or the rows of a page. Short,
because nobody else pulls before the lease of a worker that was killed has ended."""
_CLOCKS_APART = timedelta(minutes=5)
"""Where PEMS does not say its time, ours stands for it, less what the two clocks may differ by."""
_SWEEP_AGAIN = timedelta(minutes=1)
_CHANCE = random.SystemRandom()


class LeaseLostError(Exception):
    """Somebody else pulls this organization now: what is applied stays applied, and nothing more is done here."""


@dataclass
class Pulled:
    """What a pull saw and did."""

    seen: int = 0
    changed: int = 0
    broken: list[BrokenRow] = field(default_factory=list)
    pages: int = 0


@dataclass
class Run:
    """A pull under way, and the lease it is under. `since` None: every record, a sweep."""

    organization: Organization
    lease_until: datetime
    since: datetime | None = None
    until: datetime | None = None
    cursor: str = ""
    resumed: bool = False
    job: Job | None = None
    began_at: datetime | None = None
    pulled: Pulled = field(default_factory=Pulled)
    sighted: set[str] = field(default_factory=set)
    """Ids the pages showed, broken rows included: a record that cannot be read is not gone."""
    total: int | None = None
    ended: bool = False

    @property
    def is_sweep(self) -> bool:
        return self.since is None

    def mine(self) -> QuerySet[InboundState]:
        return InboundState.objects.filter(organization=self.organization, lease_until=self.lease_until)

    def renew(self) -> None:
        """Raises LeaseLostError."""
        until = _lease_end()
        if not self.mine().update(lease_until=until):
            raise LeaseLostError
        self.lease_until = until

    def release(self) -> None:
        self.mine().update(lease_until=None)

    def save_page(self, page: Page) -> None:
        """The rows of this page are committed: a run that breaks off goes on behind them. Raises LeaseLostError."""
        cursor = page.next_cursor or ""
        place = {"run_since": self.since, "run_until": self.until, "run_cursor": cursor if len(cursor) <= 500 else ""}
        if not self.mine().update(**place):
            raise LeaseLostError
        if self.job is not None:
            counts = {"seen": self.pulled.seen, "changed": self.pulled.changed, "total": self.total or self.pulled.seen}
            Job.objects.filter(pk=self.job.pk).update(**counts)


def _lease_end() -> datetime:
    return database_now() + _BEYOND_A_REQUEST + timedelta(seconds=settings.PEMS_REQUEST_TIMEOUT)


def claim(organization: Organization) -> Run | None:
    """A run under a lease of its own, or None while somebody else pulls this organization."""
    InboundState.objects.get_or_create(organization=organization)
    until = _lease_end()
    free = Q(lease_until=None) | Q(lease_until__lte=database_now())
    taken = InboundState.objects.filter(free, organization=organization).update(lease_until=until)
    return Run(organization, until) if taken else None


def begin(run: Run, *, full: bool, author_id: int | None, quiet: bool) -> None:
    """Goes on with the run that broke off, unless a sweep is wanted and that was none; else a new one. `quiet`: leaves a
    job behind only if there turns out to be something to tell."""
    state = InboundState.objects.select_related("run_job").get(organization=run.organization)
    run.began_at = database_now()
    run.resumed = state.run_until is not None and not (full and state.run_since is not None)
    if run.resumed:
        run.since, run.until, run.cursor = state.run_since, state.run_until, state.run_cursor
    elif not full and state.seen_until is not None:
        run.since = state.seen_until - timedelta(seconds=settings.PULL_OVERLAP_SECONDS)
    run.job = _job(run, state, author_id, quiet)
    if run.job is not None:
        run.pulled.seen, run.pulled.changed = run.job.seen, run.job.changed
        InboundState.objects.filter(pk=state.pk).update(run_job=run.job)


def _job(run: Run, state: InboundState, author_id: int | None, quiet: bool) -> Job | None:
    if state.run_job is not None and state.run_job.finished_at is None:
        return state.run_job
    return None if quiet else new_job(run.organization, is_sweep=run.is_sweep, author_id=author_id, at=database_now())


def new_job(organization: Organization, *, is_sweep: bool, author_id: int | None, at: datetime) -> Job:
    kind = JobKind.SWEEP if is_sweep else JobKind.PULL
    return Job.objects.create(organization=organization, kind=kind, author_id=author_id, started_at=at)


def fix_upper_bound(run: Run, page: Page) -> None:
    """PEMS's time when the run began: what changes later is the next run's."""
    if run.until is None:
        run.until = page.server_time or database_now() - _CLOCKS_APART


@deadlock_retried
def end(run: Run) -> None:
    """Every page was applied: only now `seen_until` moves on. A complete sweep draws its conclusions. Raises LeaseLostError."""
    with unit_of_work() as work:
        counted = tombstones.count(run.organization, run.sighted, run.total) if _may_count(run) else None
        state = run.mine().select_for_update().first()
        if state is None:
            raise LeaseLostError
        state.seen_until, state.run_since, state.run_until, state.run_cursor = run.until, None, None, ""
        state.broken_rows = _broken_now(run, state.broken_rows)
        _plan(state, run, work.now, counted)
        if counted is not None:
            tombstones.conclude(work, state, counted)
        _close(work, state, run, failure="")
        crashpoints.reached("before_run_end", run.organization.code)
    crashpoints.reached("after_run_end", run.organization.code)
    run.ended = True
    if counted is not None:
        tombstones.bury(run.organization, counted)
        if run.began_at is not None:
            tombstones.doubt(run.organization, run.sighted, since=run.began_at)
        if counted.complete and run.began_at is not None:
            swept(run.organization, since=run.began_at)


def _may_count(run: Run) -> bool:
    return run.is_sweep and not run.resumed


def _broken_now(run: Run, before: list[dict[str, str]]) -> list[dict[str, str]]:
    """A pull that did not look at everything leaves the rest standing."""
    still = [] if _may_count(run) else [row for row in before if row["pfaId"] not in run.sighted]
    return ([{"pfaId": row.pfa_id, "message": row.message} for row in run.pulled.broken] + still)[:MOST_BROKEN]


def _plan(state: InboundState, run: Run, now: datetime, counted: tombstones.Counted | None) -> None:
    if Organization.objects.filter(pk=run.organization.pk).exclude(restored_at=None).exists():
        state.sweep_due_at = now + _SWEEP_AGAIN  # until one has ended for which nothing has to wait any more
    elif state.sweep_due_at is None or (counted is not None and counted.complete):
        state.sweep_due_at = next_sweep(now, settings.SWEEP_HOUR_UTC, _CHANCE.random())
    elif run.is_sweep:
        state.sweep_due_at = now + timedelta(hours=1)  # a partial one does not count
    if state.reconcile_due_at is None:
        state.reconcile_due_at = now + timedelta(days=7 * _CHANCE.uniform(0.9, 1.1))


def next_sweep(now: datetime, hour: int, chance: float) -> datetime:
    """The next such hour of the night, UTC, and up to half an hour later: organizations do not sweep all at once."""
    at = now.replace(hour=hour, minute=0, second=0, microsecond=0) + timedelta(minutes=30 * chance)
    return at if at > now else at + timedelta(days=1)


def next_pull(now: datetime, interval_seconds: float, chance: float) -> datetime:
    """The interval, ten percent more or less."""
    return now + timedelta(seconds=interval_seconds * (0.9 + 0.2 * chance))


def break_off(run: Run, *, failure: str, forget_cursor: bool) -> None:
    """A page could not be had or applied: the run goes on there the next time. `forget_cursor`: PEMS does not take the
    cursor of an earlier day any more, so it begins anew."""
    with unit_of_work() as work:
        state = run.mine().select_for_update().first()
        if state is None:
            return
        if forget_cursor:
            state.run_cursor = ""
        _close(work, state, run, failure=failure)


def _close(work: UnitOfWork, state: InboundState, run: Run, *, failure: str) -> None:
    pulled, others = run.pulled, state.run_job_id != (run.job.pk if run.job else None)
    if run.job is None and (pulled.changed or pulled.broken) and not failure:
        run.job = new_job(run.organization, is_sweep=run.is_sweep, author_id=None, at=run.began_at or work.now)
    if not others:
        state.run_job = None
    state.lease_until = None
    asked_for_meanwhile = state.run_job_id is not None
    later = next_pull(work.now, settings.PULL_INTERVAL_SECONDS, _CHANCE.random())
    state.pull_due_at = work.now if asked_for_meanwhile else later
    state.save()
    if not failure:
        Organization.objects.filter(pk=run.organization.pk).update(pulled_at=work.now)
    if run.job is not None:
        _finish(work, run, run.job, failure)


def _finish(work: UnitOfWork, run: Run, job: Job, failure: str) -> None:
    pulled = run.pulled
    job.seen, job.total, job.changed, job.skipped = pulled.seen, pulled.seen, pulled.changed, len(pulled.broken)
    job.errors = [{"pfaId": row.pfa_id, "message": row.message} for row in pulled.broken[:MOST_BROKEN]]
    job.errors += [{"pfaId": "", "message": failure}] if failure else []
    job.finished_at = work.now
    job.save()
    after = {"seen": pulled.seen, "changed": pulled.changed, "skipped": len(pulled.broken), "sweep": run.is_sweep}
    event = events.PullFinished(organization_id=run.organization.pk, actor="inbound", reason=failure[:500], after=after)
    work.record(event)
    if job.author_id is not None:  # somebody waits for it
        work.record(
            events.JobProgressed(
                organization_id=run.organization.pk, actor="inbound", job_id=job.pk, done=pulled.seen, total=pulled.seen
            )
        )
