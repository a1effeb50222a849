"""sync-logs: write-syncs and pulls, with counts, progress and duration; as CSV where that is asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.http import HttpResponseBase
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField

from pems_sync.access import job_for
from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, id_from, member_by_query
from pems_sync.api.paging import Order
from pems_sync.api.sheets import as_csv, wants_csv
from pems_sync.api.strict import NoQuery, Paged, Slug, checked_query
from pems_sync.api.wire import STATUS_WORDS, having_status, stamp
from pems_sync.clock import database_now
from pems_sync.models import Job, Modification
from pems_sync.models.job import JobKind
from pems_sync.states import State

_ORDER = Order("jobs", ("-started_at", "id"))
_COLUMNS = (
    "jobId", "kind", "status", "author", "reason", "total", "done", "progress", "startedAt", "finishedAt",
    "durationSeconds",
)  # fmt: skip
_DONE = ("synced", "conflict", "failed", "superseded", "withdrawn")  # they need nothing more of the machine


class JobsQuery(Paged):
    organizationId = Slug()
    status = ChoiceField(["running", "completed", "failed"], required=False)


class JobsView(Endpoint):
    @extend_schema(
        "list_sync_logs",
        parameters=[JobsQuery],
        responses={
            (200, "application/json"): shapes.page_of(shapes.JobShape),
            (200, "text/csv"): OpenApiResponse(str, "the same page; its cursor is in X-Next-Cursor"),
            **shapes.answers(400, 404),
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        organization = member_by_query(request).organization
        query = checked_query(JobsQuery, request.query_params)
        rows = Job.objects.filter(organization=organization).select_related("organization", "author")
        if "status" in query:
            rows = _with_status(rows, query["status"])
        page = _ORDER.page(rows, limit=query["limit"], cursor=query.get("cursor"), scope=organization.pk)
        items = job_shapes(page.rows)
        if wants_csv(request):
            return as_csv("sync-logs", (*_COLUMNS, *STATUS_WORDS), map(_line, items), page.next_cursor)
        return Response({"items": items, "nextCursor": page.next_cursor})


class JobView(Endpoint):
    @extend_schema("get_sync_log", responses={200: shapes.JobShape, **shapes.answers(400, 404)})
    def get(self, request: Request, job_id: str) -> Response:
        _, job = job_for(request.user, id_from(job_id))
        checked_query(NoQuery, request.query_params)
        return Response(job_shapes([job])[0])


def _with_status(rows: QuerySet[Job], word: str) -> QuerySet[Job]:
    """`failed`: finished, and something in it was given up."""
    dead = Exists(Modification.objects.filter(job=OuterRef("pk"), state=State.DEAD))
    failed = Q(dead) | ~Q(errors=[])
    match word:
        case "running":
            return rows.filter(finished_at=None)
        case "failed":
            return rows.exclude(finished_at=None).filter(failed)
        case _:
            return rows.exclude(finished_at=None).exclude(failed)


def job_shapes(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """One query for the counts of all of them."""
    counts = _counts([job.pk for job in jobs])
    now = database_now()
    return [_shape(job, counts[job.pk], now) for job in jobs]


def _counts(ids: Iterable[UUID]) -> dict[UUID, dict[str, int]]:
    columns = {word: Count("pk", filter=having_status(word)) for word in STATUS_WORDS}
    rows = Modification.objects.filter(job__in=list(ids)).order_by().values("job").annotate(**columns)
    found: dict[UUID, dict[str, int]] = defaultdict(dict)
    row: Any
    for row in rows:
        found[row["job"]] = {word: row[word] for word in STATUS_WORDS if row[word]}
    return found


def _shape(job: Job, by_status: dict[str, int], now: datetime) -> dict[str, Any]:
    reads = job.kind in (JobKind.PULL, JobKind.SWEEP, JobKind.RECONCILE)
    counts = {"seen": job.seen, "changed": job.changed, "skipped": job.skipped} if reads else by_status
    done = job.seen if reads else min(job.total, sum(by_status.get(word, 0) for word in _DONE))
    progress = 1.0 if job.finished_at else (done / job.total if job.total else 0.0)
    failed = bool(by_status.get("failed") or job.errors)
    return {
        "jobId": str(job.pk),
        "organizationId": job.organization.slug,
        "kind": job.kind,
        "status": "running" if job.finished_at is None else "failed" if failed else "completed",
        "author": job.author.get_username() if job.author else None,
        "reason": job.reason,
        "total": job.total,
        "done": done,
        "progress": round(min(1.0, progress), 4),
        "counts": counts,
        "startedAt": stamp(job.started_at),
        "finishedAt": stamp(job.finished_at),
        "durationSeconds": round(((job.finished_at or now) - job.started_at).total_seconds(), 3),
    }


def _line(item: dict[str, Any]) -> list[Any]:
    return [item[name] for name in _COLUMNS] + [item["counts"].get(word, 0) for word in STATUS_WORDS]
