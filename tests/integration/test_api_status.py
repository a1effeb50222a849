"""sync-status, queue-metrics, sync-logs: the numbers, and what they cost."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from django.db import connection as database
from django.utils import timezone

from pems_sync.models import Connection, HourTally, Job, Modification, Organization
from pems_sync.models.organization import Breaker
from pems_sync.models.tally import LATENCY_BUCKETS_SECONDS
from tests.cast import Cast
from tests.integration import api_acts as acts

STATUS = "/api/pems/sync-status?organizationId=org-rio"
LOGS = "/api/pems/sync-logs?organizationId=org-rio"


@pytest.fixture(autouse=True)
def _unhurried(settings):
    settings.API_USER_RATE_LIMIT = 1000


@pytest.fixture
def planner(api, cast: Cast):
    return api(cast.planner)


@pytest.fixture
def one_of_each(cast: Cast, rio, make_record) -> None:
    Connection.objects.update(requests_per_second=10_000)
    for act in (acts.confirmed, acts.unknown, acts.conflicted, acts.buried, acts.retrying, acts.queued, acts.draft):
        act(make_record(rio), cast.planner)
    Connection.objects.update(requests_per_second=10)


def test_every_number(planner, one_of_each) -> None:
    numbers = planner.get(STATUS).json()
    counts = {
        name: numbers[name]
        for name in ("totalQueued", "processing", "completed", "failed", "conflicts", "unknown", "deadLetters")
    }
    assert counts == {
        "totalQueued": 2,
        "processing": 0,
        "completed": 1,
        "failed": 1,
        "conflicts": 1,
        "unknown": 1,
        "deadLetters": 1,
    }
    assert 0 < numbers["avgSyncTime"] < 60
    assert 0 < numbers["p95SyncTime"] < 60
    assert 0 < numbers["oldestQueuedAge"] < 60
    assert numbers["successRate"] == 0.5
    assert numbers["lastSyncAt"].endswith("Z")
    assert (numbers["paused"], numbers["breaker"]) == (False, "closed")
    assert numbers["estimatedDrainSeconds"] == 0.1


def test_an_idle_organization(planner) -> None:
    numbers = planner.get(STATUS).json()
    assert (numbers["totalQueued"], numbers["oldestQueuedAge"], numbers["lastSyncAt"]) == (0, None, None)
    assert (numbers["health"], numbers["successRate"], numbers["estimatedDrainSeconds"]) == ("healthy", 1.0, 0.0)


def test_the_numbers_are_of_one_organization(api, cast: Cast, one_of_each) -> None:
    numbers = api(cast.outsider).get("/api/pems/sync-status?organizationId=org-portarthur").json()
    assert (numbers["totalQueued"], numbers["completed"], numbers["failed"]) == (0, 0, 0)


def test_status_leaves_one_count(planner, one_of_each) -> None:
    numbers = planner.get(f"{STATUS}&status=conflict").json()
    assert (numbers["conflicts"], numbers["totalQueued"], numbers["completed"], numbers["failed"]) == (1, 0, 0, 0)
    assert planner.get(f"{STATUS}&status=retrying").json()["totalQueued"] == 1


def test_dates_choose_hours(planner, rio) -> None:
    latency = [0] * (len(LATENCY_BUCKETS_SECONDS) + 1)
    for days, confirmed in ((0, 1), (10, 5)):
        hour = (timezone.now() - timedelta(days=days)).replace(minute=0, second=0, microsecond=0)
        HourTally.objects.create(
            organization=rio,
            hour=hour,
            confirmed=confirmed,
            seconds_total=confirmed * 2.0,
            latency=[confirmed, *latency[1:]],
        )
    day = (timezone.now() - timedelta(days=10)).date()
    assert planner.get(STATUS).json()["completed"] == 6
    assert planner.get(f"{STATUS}&startDate={day}").json()["completed"] == 6
    assert planner.get(f"{STATUS}&startDate={day}&endDate={day + timedelta(days=1)}").json()["completed"] == 5
    assert planner.get(f"{STATUS}&startDate=2026-01-01T00:00:00%2B02:00").status_code == 200


def test_paused_is_the_organizations_or_the_connections(planner, api, cast: Cast, rio: Organization) -> None:
    admin = api(cast.admin)
    answer = admin.post("/api/pems/organizations/org-rio/pause", {"reason": "year end"}, format="json")
    assert answer.json() == {"organizationId": "org-rio", "paused": True, "reason": "year end"}
    assert (planner.get(STATUS).json()["paused"], planner.get(STATUS).json()["health"]) == (True, "paused")
    assert admin.post("/api/pems/organizations/org-rio/resume").json()["paused"] is False
    Connection.objects.update(paused_at=timezone.now(), paused_reason="credentials")
    assert planner.get(STATUS).json()["paused"] is True
    assert planner.get("/api/organizations").json()["items"][0]["paused"] is True
    assert admin.post("/api/pems/organizations/org-rio/resume", {}, format="json").status_code == 200
    assert planner.get(STATUS).json()["paused"] is False


def test_pause_needs_a_reason(api, cast: Cast) -> None:
    for body in ({}, {"reason": ""}, {"reason": "<b></b>"}, {"reason": 1}, {"reason": "x" * 501}):
        answer = api(cast.admin).post("/api/pems/organizations/org-rio/pause", body, format="json")
        assert answer.status_code == 400, body
    assert not Organization.objects.exclude(paused_at=None).exists()


def test_health_tells_trouble(planner, rio: Organization, cast: Cast, make_record, settings) -> None:
    connections = Connection.objects.filter(pk=rio.connection_id)
    shown = {}
    for breaker in Breaker.values:
        connections.update(breaker=breaker, breaker_since=timezone.now() - timedelta(minutes=1))
        numbers = planner.get(STATUS).json()
        shown[numbers["breaker"]] = numbers["health"]
    assert shown == {"closed": "healthy", "open": "down", "half_open": "degraded"}
    connections.update(breaker="closed", breaker_since=timezone.now())
    assert planner.get(STATUS).json()["health"] == "degraded", "it starts slowly"
    connections.update(breaker_since=None)
    row = acts.queued(make_record(rio), cast.planner)
    Modification.objects.filter(pk=row.pk).update(queued_at=timezone.now() - timedelta(minutes=5))
    assert planner.get(STATUS).json()["health"] == "down", "due for long, and nobody takes it"
    Organization.objects.update(claimed_at=timezone.now())
    assert planner.get(STATUS).json()["health"] == "degraded"


def test_sync_status_never_looks_at_finished_rows(planner, one_of_each, django_assert_max_num_queries) -> None:
    with django_assert_max_num_queries(9) as seen:
        assert planner.get(STATUS).status_code == 200
    counted = [each["sql"] for each in seen if "pems_sync_modification" in each["sql"]]
    assert len(counted) == 1
    with database.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + counted[0])
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "mod_open_states" in plan


def test_queue_metrics(planner, one_of_each) -> None:
    metrics = planner.get("/api/pems/queue-metrics?organizationId=org-rio").json()
    assert metrics["byStatus"] == {"queued": 1, "retrying": 1, "syncing": 0, "verifying": 1, "conflict": 1, "failed": 1}
    assert metrics["byOperation"] == {"UPDATE": 5}
    assert metrics["byPriority"] == {"0": 5}
    assert len(metrics["throughput"]) == 60
    assert sum(each["confirmed"] for each in metrics["throughput"]) == 1
    assert sum(each["failed"] for each in metrics["throughput"]) == 1


def test_sync_logs_tell_progress(planner, cast: Cast, rio, make_record) -> None:
    for _ in range(2):
        acts.draft(make_record(rio), cast.planner)
    job_id = planner.post("/api/pems/write-sync", {"organizationId": "org-rio", "reason": "go"}, format="json").json()[
        "jobId"
    ]
    job = planner.get(f"/api/pems/sync-logs/{job_id}").json()
    assert (job["status"], job["total"], job["done"], job["progress"], job["counts"]) == (
        "running",
        2,
        0,
        0.0,
        {"queued": 2},
    )
    assert planner.get(LOGS).json() == {
        "items": [{**job, "durationSeconds": pytest.approx(0, abs=5)}],
        "nextCursor": None,
    }
    for row in Job.objects.get().modifications.all():
        planner.post(f"/api/pems/modifications/{row.pk}/withdraw")
    job = planner.get(f"/api/pems/sync-logs/{job_id}").json()
    assert (job["status"], job["done"], job["progress"], job["counts"]) == ("completed", 2, 1.0, {"withdrawn": 2})
    assert [
        len(planner.get(f"{LOGS}&status={word}").json()["items"]) for word in ("running", "completed", "failed")
    ] == [0, 1, 0]


def test_a_job_with_a_dead_letter_has_failed(planner, cast: Cast, rio, make_record) -> None:
    acts.buried(make_record(rio), cast.planner)
    Job.objects.update(finished_at=timezone.now())
    assert [each["status"] for each in planner.get(f"{LOGS}&status=failed").json()["items"]] == ["failed"]
    assert planner.get(f"{LOGS}&status=completed").json()["items"] == []


@pytest.mark.parametrize("reason", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "=cmd|' /C calc'!A0"])
def test_a_spreadsheet_takes_no_reason_for_a_formula(planner, cast: Cast, rio, reason: str) -> None:
    for _ in range(3):
        Job.objects.create(
            organization=rio, kind="write_sync", author=cast.planner, reason=reason, started_at=timezone.now()
        )
    answer = planner.get(f"{LOGS}&limit=2", HTTP_ACCEPT="text/csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["RateLimit-Limit"] == "1000"
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert [row["reason"] for row in rows] == [f"'{reason}"] * 2
    more = planner.get(f"{LOGS}&limit=2&cursor={answer.headers['X-Next-Cursor']}", HTTP_ACCEPT="text/csv")
    assert len(list(csv.DictReader(io.StringIO(more.content.decode())))) == 1


def test_an_error_is_json_whatever_is_accepted(planner) -> None:
    for accept in ("text/csv", "text/html", "image/png"):
        answer = planner.get(f"{LOGS}&limit=0", HTTP_ACCEPT=accept)
        assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")
