"""How far the jobs of a transaction's rows are: counted, never kept, so it cannot go wrong."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Count, Q

from pems_sync import events
from pems_sync.journal import UnitOfWork
from pems_sync.models import Job
from pems_sync.states import OPEN, State

_NOT_DONE = Q(modifications__state__in=sorted(OPEN - {State.CONFLICTED}))


def report_progress(work: UnitOfWork, job_ids: Iterable[UUID]) -> None:
    """One JOB_PROGRESS per job. Done is what needs nothing more of the machine."""
    ids = set(job_ids)
    if not ids:
        return
    for job in Job.objects.filter(pk__in=ids).annotate(waiting=Count("modifications", filter=_NOT_DONE)):
        done = max(0, job.total - job.waiting)
        if done == job.total and job.finished_at is None:
            Job.objects.filter(pk=job.pk).update(finished_at=work.now)
        work.record(
            events.JobProgressed(
                organization_id=job.organization_id, actor="worker", job_id=job.pk, done=done, total=job.total
            )
        )
