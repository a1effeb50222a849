"""Whose turn it is: pulls that are due, pulls that people ask for, and what a bell then does."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Case, F, Q, QuerySet, When
from django.db.models.functions import Now

from pems_sync import dispatch, events
from pems_sync.clock import database_now
from pems_sync.errors import PullUnderWayError
from pems_sync.inbound import runs
from pems_sync.inbound.pulling import pull
from pems_sync.journal import unit_of_work
from pems_sync.models import InboundState, Job, Membership, NamedRead, Organization
from pems_sync.models.job import JobKind
from pems_sync.scheduling import may_read
from pems_sync.services import breaking

PULLS_AT_ONCE = 3
"""In the whole fleet, so that pulls never take every place of the control worker."""
ASK_AGAIN_AFTER = timedelta(seconds=15)
RECONCILE_EVERY = timedelta(days=7)


def due() -> list[Organization]:
    """Organizations whose pull is due and that nobody pulls, the longest waiting first. One query. A paused organization
    is pulled all the same, a paused or resting connection is not read."""
    under_way = Q(inbound__lease_until__gt=Now())
    waiting = Q(inbound=None) | Q(inbound__pull_due_at=None) | Q(inbound__pull_due_at__lte=Now())
    rows = _readable().filter(waiting | under_way).annotate(is_busy=Case(When(under_way, then=1), default=0))
    first = list(rows.order_by("-is_busy", F("inbound__pull_due_at").asc(nulls_first=True), "pk")[:PULLS_AT_ONCE])
    return [organization for organization in first if not organization.is_busy]


def _readable() -> QuerySet[Organization]:
    rested = Q(connection__held_until=None) | Q(connection__held_until__lte=Now())
    let_through = breaking.letting_through(Now(), prefix="connection__")
    return Organization.objects.filter(rested, let_through, connection__paused_at=None)


def take_turn(organization: Organization) -> bool:
    """Whether it is for the caller to ask: of two sweeps one asks. Asked again when nothing came of it."""
    state, _ = InboundState.objects.get_or_create(organization=organization)
    still_due = InboundState.objects.filter(Q(pull_due_at=None) | Q(pull_due_at__lte=Now()), pk=state.pk)
    return bool(still_due.update(pull_due_at=database_now() + ASK_AGAIN_AFTER))


def with_names() -> QuerySet[Organization]:
    """Organizations with records to be read by name. Those under way are asked again when that is over."""
    named = NamedRead.objects.filter(named_at__lte=Now()).values("organization_id")
    free = Q(inbound=None) | Q(inbound__lease_until=None) | Q(inbound__lease_until__lte=Now())
    return _readable().filter(free, pk__in=named)


def request_pull(*, membership: Membership, full: bool) -> Job:
    """A person wants PEMS read now. While a pull they can watch is under way, it is that one; a sweep then follows it."""
    organization = membership.organization
    InboundState.objects.get_or_create(organization=organization)
    with unit_of_work() as work:
        rows = InboundState.objects.select_related("run_job").select_for_update(of=("self",))
        state = rows.get(organization=organization)
        if state.run_job is not None and state.run_job.finished_at is None:
            if full and state.run_job.kind != JobKind.SWEEP:
                InboundState.objects.filter(pk=state.pk).update(sweep_due_at=work.now)
            return state.run_job
        job = runs.new_job(organization, is_sweep=full, author_id=membership.user_id, at=work.now)
        InboundState.objects.filter(pk=state.pk).update(run_job=job, pull_due_at=work.now + ASK_AGAIN_AFTER)
        actor = membership.user.get_username()
        work.record(events.PullAsked(organization_id=organization.pk, actor=actor, after={"full": full}))
        dispatch.pull_on_commit(organization.pk, shown=organization.code)
    return job


def answer(organization: Organization) -> None:
    """What a bell does: the sweep when one is due or asked for, else what changed. Raises PemsUnavailableError,
    SecretsUnavailableError, PaceUnavailableError."""
    state, _ = InboundState.objects.select_related("run_job").get_or_create(organization=organization)
    job = state.run_job if state.run_job is not None and state.run_job.finished_at is None else None
    if not may_read(organization.connection):
        _refuse(organization, job)
        return
    now = database_now()
    if InboundState.objects.filter(lease_until__gt=now).count() >= PULLS_AT_ONCE:
        return  # asked again in a moment
    full = (state.sweep_due_at is not None and state.sweep_due_at <= now) or (
        job is not None and job.kind == JobKind.SWEEP
    )
    try:
        pull(organization, full=full, quiet=not full)
    except PullUnderWayError:
        return
    _ask_for_reconcile(organization, state)


def _refuse(organization: Organization, job: Job | None) -> None:
    """A paused connection stays paused until a person resumes it: whoever asked need not wait. One that rests is asked later."""
    reason = organization.connection.paused_reason
    run = runs.claim(organization) if job is not None and organization.connection.paused_at else None
    if run is not None:
        run.job = job
        runs.break_off(run, failure=f"The connection to PEMS is paused: {reason}", forget_cursor=False)


def _ask_for_reconcile(organization: Organization, state: InboundState) -> None:
    """Once a week, behind a pull: what then differs has a reason."""
    now = database_now()
    rows = InboundState.objects.filter(pk=state.pk, reconcile_due_at__lte=now)
    if rows.update(reconcile_due_at=now + RECONCILE_EVERY):
        dispatch.reconcile(organization.pk, shown=organization.code)
