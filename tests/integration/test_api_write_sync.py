"""write-sync: drafts become queued modifications; the same request twice is carried out once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection as database
from django.utils import timezone

from pems_sync.models import IdempotentRequest, Job, Modification, Organization
from tests.cast import Cast
from tests.integration import api_acts as acts

PATH = "/api/pems/write-sync"


@pytest.fixture(autouse=True)
def _unhurried(settings):
    settings.API_USER_RATE_LIMIT = 1000


def sync(client, key: str | None = None, **body):
    headers = {"HTTP_IDEMPOTENCY_KEY": key} if key else {}
    return client.post(PATH, {"organizationId": "org-rio", **body}, format="json", **headers)


def test_all_my_drafts_or_those_named(api, cast: Cast, rio: Organization, make_record) -> None:
    planner = api(cast.planner)
    rows = [acts.draft(make_record(rio), cast.planner) for _ in range(3)]
    acts.draft(make_record(rio), cast.second)
    one = sync(planner, modificationIds=[str(rows[0].pk)], priority=3, reason="now")
    assert one.status_code == 202
    body = one.json()
    assert (body["success"], body["queuedCount"], body["rejected"]) == (True, 1, [])
    assert body["estimatedCompletionTime"].endswith("Z")
    row = acts.fresh(rows[0])
    assert (row.state, row.priority, row.reason, str(row.job_id)) == ("queued", 3, "now", body["jobId"])
    assert sync(planner).json()["queuedCount"] == 2


def test_nothing_to_queue_is_accepted(api, cast: Cast) -> None:
    body = sync(api(cast.planner)).json()
    assert (body["queuedCount"], body["jobId"], body["rejected"]) == (0, None, [])


def test_ids_that_are_not_mine_are_rejected(api, cast: Cast, rio, make_record) -> None:
    theirs, nobodys = acts.draft(make_record(rio), cast.second), uuid4()
    body = sync(api(cast.planner), modificationIds=[str(theirs.pk), str(nobodys)]).json()
    assert (body["queuedCount"], body["jobId"]) == (0, None)
    assert {each["modificationId"] for each in body["rejected"]} == {str(theirs.pk), str(nobodys)}
    assert len({str(each["errors"]) for each in body["rejected"]}) == 1, "what exists and what does not look alike"


def test_a_draft_that_breaks_a_rule_by_now_is_rejected_and_stays(api, cast: Cast, rio, make_record) -> None:
    record = make_record(rio)
    row = acts.draft(record, cast.planner, forecastEnd="2026-02-01")
    acts.moved_in_pems(record, forecastStart="2026-03-01")
    row.at_risk = []
    row.save()
    body = sync(api(cast.planner)).json()
    assert body["rejected"][0]["errors"][0]["code"] == "INVALID_DATE_ORDER"
    assert acts.fresh(row).state == "draft"


def test_the_same_key_gives_the_same_answer_and_does_nothing_twice(api, cast: Cast, rio, make_record) -> None:
    planner = api(cast.planner)
    acts.draft(make_record(rio), cast.planner)
    first = sync(planner, key="k-1")
    acts.draft(make_record(rio), cast.planner)
    again = sync(planner, key="k-1")
    assert (again.status_code, again.json()) == (202, first.json())
    assert Modification.objects.drafts().count() == 1
    assert Job.objects.count() == 1


def test_the_same_key_with_another_body_is_409(api, cast: Cast) -> None:
    planner = api(cast.planner)
    sync(planner, key="k-1")
    answer = sync(planner, key="k-1", priority=1)
    assert (answer.status_code, answer.json()["error"]) == (409, "IDEMPOTENCY_KEY_REUSED")


def test_a_key_belongs_to_one_user_and_ends_after_a_day(api, cast: Cast, rio, make_record) -> None:
    sync(api(cast.planner), key="k-1")
    acts.draft(make_record(rio), cast.second)
    assert sync(api(cast.second), key="k-1").json()["queuedCount"] == 1
    IdempotentRequest.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert sync(api(cast.planner), key="k-1", priority=1).status_code == 202


def test_a_key_does_not_outlive_the_permission(api, cast: Cast) -> None:
    planner = api(cast.planner)
    sync(planner, key="k-1")
    cast.planner.memberships.update(permissions=["read"])
    assert sync(planner, key="k-1").status_code == 403


def test_the_same_request_eight_times_at_once_is_carried_out_once(
    transactional_db, api, cast: Cast, rio, make_record
) -> None:
    acts.draft(make_record(rio), cast.planner)
    clients = [api(cast.planner) for _ in range(8)]

    def send(client):
        try:
            return sync(client, key="k-1")
        finally:
            database.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, clients))
    accepted = [answer.json() for answer in answers if answer.status_code == 202]
    assert accepted
    assert all(each == accepted[0] for each in accepted)
    assert {answer.json()["error"] for answer in answers if answer.status_code != 202} <= {"REQUEST_IN_PROGRESS"}
    assert Job.objects.count() == 1
