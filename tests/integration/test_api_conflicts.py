"""Conflicts over the API: three values per field, and a person's word."""

from __future__ import annotations

from uuid import uuid4

import pytest

from conflicts.models import Conflict
from pems_sync.models import Membership
from tests.cast import Cast
from tests.integration import api_acts as acts


@pytest.fixture(autouse=True)
def _unhurried(settings):
    settings.API_USER_RATE_LIMIT = 1000


@pytest.fixture
def planner(api, cast: Cast):
    return api(cast.planner)


@pytest.fixture
def record(rio, make_record):
    return make_record(rio)


@pytest.fixture
def conflict(record, cast: Cast) -> Conflict:
    return Conflict.objects.get(modification=acts.conflicted(record, cast.planner))


def resolve(client, conflict: Conflict, resolution: str, seen: int = 5, **more):
    body = {"resolution": resolution, "seenPemsVersion": seen, **more}
    return client.post(f"/api/pems/conflicts/{conflict.pk}/resolve", body, format="json")


def test_a_conflict_shows_three_values(planner, conflict: Conflict) -> None:
    shown = planner.get(f"/api/pems/conflicts/{conflict.pk}").json()
    assert (shown["status"], shown["kind"], shown["pemsVersion"]) == ("unresolved", "edit_edit", 5)
    assert shown["modificationId"] == str(conflict.modification_id)
    assert shown["fields"] == [
        {"name": "model", "base": "330", "ours": "320", "theirs": "340", "group": None, "masked": False}
    ]
    listed = planner.get("/api/pems/conflicts?organizationId=org-rio&status=unresolved").json()
    assert listed == {"items": [shown], "nextCursor": None}
    assert planner.get("/api/pems/conflicts?organizationId=org-rio&status=resolved").json()["items"] == []


def test_use_local_sends_the_edit_on(planner, conflict: Conflict) -> None:
    answer = resolve(planner, conflict, "use_local", comment="ours is right")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["success"], body["appliedChanges"], body["requeuedForSync"]) == (True, {"model": "320"}, True)
    assert acts.fresh(conflict.modification).state == "queued"
    shown = planner.get("/api/pems/conflicts?organizationId=org-rio&status=resolved").json()["items"][0]
    assert (shown["resolution"], shown["comment"], shown["resolvedBy"]) == ("use_local", "ours is right", "rio-planner")


def test_use_pems_ends_the_edit(planner, conflict: Conflict) -> None:
    body = resolve(planner, conflict, "use_pems").json()
    assert (body["appliedChanges"], body["requeuedForSync"]) == ({}, False)
    assert acts.fresh(conflict.modification).state == "withdrawn"


def test_a_conflict_that_moved_shows_the_new_values(planner, conflict: Conflict, record) -> None:
    record.refresh_from_db()
    acts.moved_in_pems(record, model="350")
    answer = resolve(planner, conflict, "use_local")
    assert (answer.status_code, answer.json()["error"]) == (409, "CONFLICT_MOVED")
    shown = answer.json()["details"]["conflict"]
    assert (shown["pemsVersion"], shown["fields"][0]["theirs"], shown["status"]) == (6, "350", "unresolved")
    assert resolve(planner, conflict, "use_local", seen=6).status_code == 200


def test_resolved_is_resolved(planner, conflict: Conflict) -> None:
    resolve(planner, conflict, "use_pems")
    assert resolve(planner, conflict, "use_local").json()["error"] == "CONFLICT_ALREADY_RESOLVED"


def test_merge_is_not_available_yet(planner, conflict: Conflict) -> None:
    answer = resolve(planner, conflict, "merge", mergedData={"model": "330"})
    assert (answer.status_code, answer.json()["error"]) == (400, "MERGE_NOT_AVAILABLE")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"resolution": "use_local"},
        {"resolution": "nope", "seenPemsVersion": 5},
        {"resolution": "use_local", "seenPemsVersion": "5"},
        {"resolution": "use_local", "seenPemsVersion": 5, "mergedData": {"model": "X"}},
        {"resolution": "use_local", "seenPemsVersion": 5, "comment": "x" * 501},
    ],
)
def test_a_bad_resolution_is_400(planner, conflict: Conflict, body: dict) -> None:
    assert planner.post(f"/api/pems/conflicts/{conflict.pk}/resolve", body, format="json").status_code == 400
    conflict.refresh_from_db()
    assert conflict.resolved_at is None


def test_one_that_does_not_exist_is_404(planner) -> None:
    assert planner.get(f"/api/pems/conflicts/{uuid4()}").status_code == 404


def test_money_in_a_conflict_is_hidden(planner, cast: Cast, record) -> None:
    row = acts.draft(record, cast.planner, monthlyRate="6543.21")
    acts.moved_in_pems(record, monthlyRate="7654.32")
    planner.post("/api/pems/write-sync", {"organizationId": "org-rio"}, format="json")
    conflict = Conflict.objects.get(modification=row)
    Membership.objects.filter(user=cast.planner).update(permissions=["read", "resolve", "sync"])
    answers = [
        planner.get(f"/api/pems/conflicts/{conflict.pk}"),
        planner.get("/api/pems/conflicts?organizationId=org-rio"),
        resolve(planner, conflict, "use_pems", seen=4),
        resolve(planner, conflict, "use_pems"),
        planner.get(f"/api/pems/modifications/{row.pk}"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 409, 200, 200]
    assert all("6543" not in each.content.decode() and "7654" not in each.content.decode() for each in answers)
    assert {each["name"]: each["masked"] for each in answers[0].json()["fields"] if each["masked"]} == {
        "monthlyRate": True
    }
