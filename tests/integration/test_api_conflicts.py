"""Conflicts over the API: three values per field, and a person's word."""

from __future__ import annotations

from uuid import uuid4

import pytest

from conflicts.models import Conflict
from pems_sync.drift import ConflictKind
from pems_sync.models import Membership
from pems_sync.services import transitions
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


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"resolution": "use_local"},
        {"resolution": "nope", "seenPemsVersion": 5},
        {"resolution": "use_local", "seenPemsVersion": "5"},
        {"resolution": "use_local", "seenPemsVersion": 5, "mergedData": {"model": "X"}},
        {"resolution": "use_local", "seenPemsVersion": 5, "comment": "x" * 501},
        {"resolution": "merge", "seenPemsVersion": 5},
        {"resolution": "merge", "seenPemsVersion": 5, "mergedData": []},
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


def merge(client, conflict: Conflict, values: dict, seen: int = 5):
    return resolve(client, conflict, "merge", seen, mergedData=values)


def codes(answer) -> dict[str, str]:
    return {each["field"]: each["code"] for each in answer.json()["details"]["fields"]}


@pytest.fixture
def wide(record, cast: Cast) -> Conflict:
    """Ours: model, end and area. PEMS: another model, and another start."""
    row = acts.draft(record, cast.planner, model="320", forecastEnd="2026-08-31", areaSilo="East")
    acts.moved_in_pems(record, model="340", forecastStart="2026-02-01")
    acts.commit(membership=acts.member(cast.planner), modification_ids=[row.pk])
    return Conflict.objects.get(modification=row)


def test_a_merge_sends_what_was_chosen_and_what_else_was_changed(planner, wide: Conflict) -> None:
    answer = merge(planner, wide, {"model": "350", "forecastEnd": "2026-09-30", "dor": "BEO"})
    assert answer.status_code == 200, answer.json()
    assert answer.json()["requeuedForSync"] is True
    assert answer.json()["appliedChanges"] == {
        "model": "350",
        "forecastEnd": "2026-09-30",
        "areaSilo": "East",
        "dor": "BEO",
    }
    row = acts.fresh(wide.modification)
    assert (row.state, row.changes) == ("queued", answer.json()["appliedChanges"])
    assert (row.base["model"], row.base["forecastStart"], row.expected_version) == ("340", "2026-02-01", 5)
    shown = planner.get(f"/api/pems/conflicts/{wide.pk}").json()
    assert shown["resolution"] == "merge"
    assert shown["decided"] == {"model": "350", "forecastStart": "2026-02-01", "forecastEnd": "2026-09-30"}
    assert [each["ours"] for each in shown["fields"] if each["name"] == "model"] == ["320"], "the losers stay"


def test_a_merge_must_name_each_field_that_both_sides_want(planner, wide: Conflict) -> None:
    answer = merge(planner, wide, {"forecastEnd": "2026-09-30"})
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_CHANGES")
    assert codes(answer) == {"model": "MISSING_REQUIRED_FIELD"}
    assert codes(merge(planner, wide, {})) == dict.fromkeys(["model", "forecastEnd"], "MISSING_REQUIRED_FIELD")
    wide.refresh_from_db()
    assert wide.resolved_at is None


def test_a_merge_is_read_and_checked_like_a_draft(planner, wide: Conflict) -> None:
    named = {"model": "350", "forecastEnd": "2026-09-30"}
    raw = {**named, "nope": 1, "actualStart": "2026-01-01", "monthlyRate": "5500.001"}
    assert codes(merge(planner, wide, raw)) == {
        "nope": "UNKNOWN_FIELD",
        "actualStart": "FIELD_NOT_EDITABLE",
        "monthlyRate": "INVALID_VALUE",
    }
    assert codes(merge(planner, wide, {**named, "forecastEnd": "2026-01-31"})) == {"forecastEnd": "INVALID_DATE_ORDER"}
    assert codes(merge(planner, wide, {**named, "isDiscontinued": True})) == {
        "isDiscontinued": "BUSINESS_RULE_VIOLATION"
    }
    assert acts.fresh(wide.modification).state == "conflicted"


def test_a_merge_into_what_pems_has_writes_nothing(planner, conflict: Conflict) -> None:
    body = merge(planner, conflict, {"model": "340"}).json()
    assert (body["appliedChanges"], body["requeuedForSync"]) == ({}, False)
    assert acts.fresh(conflict.modification).state == "withdrawn"
    assert planner.get(f"/api/pems/conflicts/{conflict.pk}").json()["resolution"] == "merge"


def test_a_merge_of_what_moved_since_it_was_seen_is_shown_anew(planner, wide: Conflict, record) -> None:
    """K5: the area was nobody's conflict when it was looked at."""
    record.refresh_from_db()
    acts.moved_in_pems(record, areaSilo="West")
    named = {"model": "350", "forecastEnd": "2026-09-30"}
    answer = merge(planner, wide, named)
    assert (answer.status_code, answer.json()["error"]) == (409, "CONFLICT_MOVED")
    shown = answer.json()["details"]["conflict"]
    assert (shown["pemsVersion"], {each["name"] for each in shown["fields"]}) == (
        6,
        {"model", "forecastStart", "forecastEnd", "areaSilo"},
    )
    assert codes(merge(planner, wide, named, seen=6)) == {"areaSilo": "MISSING_REQUIRED_FIELD"}
    assert merge(planner, wide, {**named, "areaSilo": "West"}, seen=6).status_code == 200


def test_a_soft_delete_is_not_merged(planner, record, cast: Cast) -> None:
    row = acts.draft(record, cast.planner, isDiscontinued=True)
    acts.moved_in_pems(record, model="340")
    acts.commit(membership=acts.member(cast.planner), modification_ids=[row.pk])
    conflict = Conflict.objects.get(modification=row)
    answer = merge(planner, conflict, {"isDiscontinued": False})
    assert (answer.status_code, answer.json()["error"]) == (400, "MERGE_NOT_AVAILABLE")
    assert resolve(planner, conflict, "use_local").json()["appliedChanges"] == {"isDiscontinued": True}


def test_an_overtaken_edit_is_merged_like_any_other(planner, record, cast: Cast) -> None:
    """K7: whether ours landed before is not known; what stands from here on is what a person says."""
    row = acts.queued(record, cast.planner, model="320", areaSilo="East")
    with acts.in_flight(row) as (moves, held, _):
        acts.moved_in_pems(record, model="340", areaSilo="West")
        transitions.conflict(
            moves, held, kind=ConflictKind.OVERTAKEN, fields=tuple(held.changes), theirs=record.fields, version=5,
            actor="worker",
        )  # fmt: skip
    conflict = Conflict.objects.get(modification=row)
    assert conflict.pattern == "overtaken: areaSilo North → West; model 330 → 340"
    assert codes(merge(planner, conflict, {"model": "320"})) == {"areaSilo": "MISSING_REQUIRED_FIELD"}
    answer = merge(planner, conflict, {"model": "320", "areaSilo": "West"})
    assert answer.json()["appliedChanges"] == {"model": "320"}
    assert acts.fresh(row).state == "queued"


def test_what_else_a_conflict_shows(planner, cast: Cast, record) -> None:
    row = acts.draft(record, cast.planner, monthlyRate="6543.21", model="320")
    acts.moved_in_pems(record, monthlyRate="7654.32", model="340")
    planner.post("/api/pems/write-sync", {"organizationId": "org-rio"}, format="json")
    conflict = Conflict.objects.get(modification=row)
    assert sorted(conflict.field_names) == ["model", "monthlyRate"]
    shown = planner.get(f"/api/pems/conflicts/{conflict.pk}").json()
    assert shown["pattern"].startswith("model 330 → 340; monthlyRate #")
    assert "7654" not in shown["pattern"]
    assert (shown["decided"], shown["undoableUntil"], shown["approval"]) == (None, None, None)
    merge(planner, conflict, {"monthlyRate": 7000, "model": "340"})
    Membership.objects.filter(user=cast.planner).update(permissions=["read"])
    shown = planner.get(f"/api/pems/conflicts/{conflict.pk}").json()
    assert shown["decided"] == {"model": "340", "monthlyRate": None}
    assert shown["undoableUntil"] is not None


def undo(client, conflict: Conflict):
    return client.post(f"/api/pems/conflicts/{conflict.pk}/undo")


def test_a_resolution_is_taken_back(planner, wide: Conflict) -> None:
    before = planner.get(f"/api/pems/conflicts/{wide.pk}").json()
    merge(planner, wide, {"model": "350", "forecastEnd": "2026-09-30"})
    answer = undo(planner, wide)
    assert (answer.status_code, answer.json()) == (200, before)
    row = acts.fresh(wide.modification)
    assert (row.state, row.changes["model"], row.base["model"]) == ("conflicted", "320", "330")
    assert resolve(planner, wide, "use_local").json()["appliedChanges"] == row.changes


def test_a_withdrawn_edit_is_taken_up_again(planner, conflict: Conflict) -> None:
    resolve(planner, conflict, "use_pems")
    shown = undo(planner, conflict).json()
    assert (shown["id"], shown["status"]) == (str(conflict.pk), "unresolved")
    assert shown["modificationId"] != str(conflict.modification_id), "withdrawn is final"
    old = planner.get(f"/api/pems/modifications/{conflict.modification_id}").json()
    assert (old["status"], old["supersededBy"]) == ("withdrawn", shown["modificationId"])
    story = planner.get(f"/api/pems/modifications/{shown['modificationId']}").json()
    assert (story["status"], story["changes"], story["conflictId"]) == ("conflict", {"model": "320"}, shown["id"])


def test_what_cannot_be_taken_back_says_why(planner, conflict: Conflict) -> None:
    answer = undo(planner, conflict)
    assert (answer.status_code, answer.json()["error"]) == (409, "UNDO_TOO_LATE")
    assert "open" in answer.json()["message"]
    planner.post(f"/api/pems/modifications/{conflict.modification_id}/withdraw", {}, format="json")
    assert "withdrawn" in undo(planner, conflict).json()["message"]
