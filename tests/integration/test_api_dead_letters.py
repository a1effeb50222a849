"""What the machine gave up on: grouped by cause, sent again, fixed, discarded."""

from __future__ import annotations

from uuid import uuid4

import pytest

from pems_sync.models import Modification
from tests.cast import Cast
from tests.integration import api_acts as acts


@pytest.fixture(autouse=True)
def _unhurried(settings):
    settings.API_USER_RATE_LIMIT = 1000


@pytest.fixture
def planner(api, cast: Cast):
    return api(cast.planner)


@pytest.fixture
def dead(cast: Cast, rio, make_record) -> list[Modification]:
    messages = ("Rate 12 is too low", "Rate 345 is too low", "Closed period")
    return [acts.buried(make_record(rio), cast.planner, message=message) for message in messages]


def listed(client, query: str = "") -> list[dict]:
    answer = client.get(f"/api/pems/dead-letters?organizationId=org-rio{query}")
    assert answer.status_code == 200
    items: list[dict] = answer.json()["items"]
    return items


def retry(client, **body):
    return client.post("/api/pems/dead-letters/retry", {"organizationId": "org-rio", **body}, format="json")


def test_dead_letters_are_grouped_by_cause(planner, dead) -> None:
    groups = listed(planner)
    assert [(each["count"], each["reason"], each["code"]) for each in groups] == [
        (2, "rejected", "NO"),
        (1, "rejected", "NO"),
    ]
    assert groups[0]["modificationIds"] == [str(row.pk) for row in dead[:2]]
    assert groups[0]["message"] == "Rate 12 is too low"
    assert listed(planner, f"&fingerprint={groups[1]['fingerprint']}") == groups[1:]
    assert listed(planner, "&reason=poison") == []
    assert planner.get("/api/pems/dead-letters?organizationId=org-rio&reason=x").status_code == 400


def test_retry_by_ids_answers_as_write_sync(planner, dead) -> None:
    nobodys = uuid4()
    answer = retry(planner, ids=[str(dead[0].pk), str(nobodys)])
    assert answer.status_code == 202
    body = answer.json()
    assert set(body) == {"success", "jobId", "queuedCount", "rejected", "estimatedCompletionTime"}
    assert body["queuedCount"] == 1
    assert [(each["modificationId"], each["errors"][0]["code"]) for each in body["rejected"]] == [
        (str(nobodys), "NOT_A_DEAD_LETTER")
    ]
    assert acts.fresh(dead[0]).state == "queued"


def test_retry_by_filter(planner, dead) -> None:
    fingerprint = dead[0].fingerprint
    assert retry(planner, filter={"fingerprint": fingerprint}).json()["queuedCount"] == 2
    assert retry(planner, filter={}).json()["queuedCount"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": []},
        {"ids": ["x"]},
        {"filter": {"nope": 1}},
        {"filter": {"reason": "x"}},
        {"ids": [str(uuid4())], "filter": {}},
        {"filter": {}, "changes": {"model": "X"}},
        {"ids": [str(uuid4()), str(uuid4())], "changes": {"model": "X"}},
    ],
)
def test_a_bad_retry_is_400(planner, dead, body: dict) -> None:
    assert retry(planner, **body).status_code == 400
    assert {acts.fresh(row).state for row in dead} == {"dead"}


def test_fix_and_resend_one(planner, dead) -> None:
    answer = retry(planner, ids=[str(dead[0].pk)], changes={"model": "325"})
    assert (answer.status_code, answer.json()["queuedCount"]) == (202, 1)
    assert acts.fresh(dead[0]).changes == {"model": "325"}


def test_a_fix_that_breaks_a_rule_is_400(planner, dead) -> None:
    for changes, code in (
        ({"forecastEnd": "2020-01-01"}, "INVALID_DATE_ORDER"),
        ({"nope": 1}, "UNKNOWN_FIELD"),
        ({"isDiscontinued": True}, "BUSINESS_RULE_VIOLATION"),
        ({"actualStart": "2026-01-01"}, "FIELD_NOT_EDITABLE"),
    ):
        answer = retry(planner, ids=[str(dead[0].pk)], changes=changes)
        assert answer.status_code == 400, answer.content
        assert answer.json()["details"]["fields"][0]["code"] == code
    assert acts.fresh(dead[0]).state == "dead"
    assert retry(planner, ids=[str(uuid4())], changes={"model": "X"}).status_code == 404


def test_somebody_without_the_right_to_a_field_cannot_resend_it(api, cast: Cast, rio, make_record) -> None:
    row = acts.buried(make_record(rio), cast.lead, actualStart="2026-01-01")
    body = retry(api(cast.planner), ids=[str(row.pk)]).json()
    assert (body["queuedCount"], body["rejected"][0]["errors"][0]["code"]) == (0, "FIELD_NOT_EDITABLE")


def test_discard(planner, dead) -> None:
    ids = [str(dead[0].pk), str(dead[1].pk)]
    answer = planner.post("/api/pems/dead-letters/discard", {"ids": ids, "reason": "not needed"}, format="json")
    assert (answer.status_code, answer.json()["discardedCount"]) == (200, 2)
    assert {acts.fresh(row).state for row in dead[:2]} == {"withdrawn"}
    assert acts.fresh(dead[2]).state == "dead"


@pytest.mark.parametrize("body", [{"reason": "x"}, {"ids": []}, {"ids": [str(uuid4())]}, {"ids": ["x"], "reason": "x"}])
def test_a_bad_discard_is_4xx(planner, dead, body: dict) -> None:
    answer = planner.post("/api/pems/dead-letters/discard", body, format="json")
    assert answer.status_code in (400, 404)
    named = {**body, "ids": [str(dead[0].pk)], "reason": "<b></b>"}
    assert planner.post("/api/pems/dead-letters/discard", named, format="json").status_code == 400
    assert acts.fresh(dead[0]).state == "dead"


def test_discard_across_organizations_is_404(planner, api, dead, cast: Cast, portarthur, make_record) -> None:
    other = acts.buried(make_record(portarthur), cast.outsider)
    body = {"ids": [str(dead[0].pk), str(other.pk)], "reason": "x"}
    assert planner.post("/api/pems/dead-letters/discard", body, format="json").status_code == 404
    assert acts.fresh(other).state == "dead"
