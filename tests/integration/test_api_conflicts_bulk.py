"""Many conflicts at once: a preview, then exactly what it showed; what changed in between is skipped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core import signing

from conflicts import bulk
from conflicts.freshness import refreshed
from conflicts.models import Conflict
from pems_sync.models import JournalEntry, Membership, Record
from pems_sync.services import people
from tests.cast import Cast
from tests.integration import api_acts as acts
from tests.invariants import assert_journal, assert_lanes


@pytest.fixture(autouse=True)
def _unhurried(settings):
    settings.API_USER_RATE_LIMIT = 1000


@pytest.fixture
def planner(api, cast: Cast):
    return api(cast.planner)


@pytest.fixture
def conflicts(rio, cast: Cast, make_record) -> list[Conflict]:
    """Three alike, and a fourth of somebody else in which PEMS says something else."""
    rows = [acts.conflicted(make_record(rio), cast.planner) for _ in range(3)]
    rows.append(acts.conflicted(make_record(rio), cast.second, theirs="350"))
    return [Conflict.objects.get(modification=row) for row in rows]


def ask(client, resolution: str = "use_local", **more: Any):
    body = {"organizationId": "org-rio", "resolution": resolution, "preview": "previewToken" not in more, **more}
    return client.post("/api/pems/conflicts/bulk-resolve", body, format="json")


def ids(answer) -> list[str]:
    return [each["conflictId"] for each in answer.json()["items"]]


def moved_in_pems(conflict: Conflict, **fields: Any) -> None:
    acts.moved_in_pems(Record.objects.get(pk=conflict.modification.record_id), **fields)


def test_a_preview_shows_what_would_happen_and_decides_nothing(planner, conflicts) -> None:
    shown = ask(planner, filter={}).json()
    assert shown["count"] == 4
    assert [each["conflictId"] for each in shown["items"]] == [str(each.pk) for each in conflicts]
    assert (shown["items"][0]["resolution"], shown["items"][0]["changes"]) == ("use_local", {"model": "320"})
    assert (shown["items"][0]["problems"], shown["items"][0]["needsApproval"]) == ([], False)
    assert {tuple(each["changes"]) for each in ask(planner, "use_pems", filter={}).json()["items"]} == {()}
    assert Conflict.objects.unresolved().count() == 4


def test_what_was_shown_is_applied_and_each_is_a_resolution_of_its_own(planner, rio, conflicts) -> None:
    token = ask(planner, filter={"pattern": "model 330 → 340"}).json()["previewToken"]
    answer = ask(planner, previewToken=token, comment="ours are newer")
    assert answer.status_code == 200, answer.json()
    assert (sorted(answer.json()["applied"]), answer.json()["skipped"], answer.json()["failed"]) == (
        sorted(str(each.pk) for each in conflicts[:3]),
        [],
        [],
    )
    assert {acts.fresh(each.modification).state for each in conflicts[:3]} == {"queued"}
    assert set(Conflict.objects.resolved().values_list("resolution", "comment", "resolved_by__username")) == {
        ("use_local", "ours are newer", "rio-planner")
    }
    assert JournalEntry.objects.filter(kind="conflict_resolved").count() == 3
    rows = [acts.fresh(each.modification) for each in conflicts]
    assert_lanes(rows)
    assert_journal(rio, rows)
    assert ask(planner, previewToken=token).json() == {
        "applied": [],
        "skipped": [{"id": str(each.pk), "reason": "resolved since the preview"} for each in conflicts[:3]],
        "failed": [],
    }, "the same request again does nothing"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, {0, 1, 2, 3}),
        ({"field": "model"}, {0, 1, 2, 3}),
        ({"field": "dor"}, set()),
        ({"kind": "edit_edit"}, {0, 1, 2, 3}),
        ({"kind": "overtaken"}, set()),
        ({"pattern": "model 330 → 350"}, {3}),
        ({"author": "rio-second"}, {3}),
        ({"author": "rio-planner", "pattern": "model 330 → 350"}, set()),
    ],
)
def test_a_filter_chooses(planner, conflicts, wanted, found) -> None:
    assert set(ids(ask(planner, filter=wanted))) == {str(conflicts[number].pk) for number in found}


def test_ids_choose_and_what_is_no_open_conflict_here_is_told(planner, conflicts) -> None:
    resolved, other = conflicts[0], uuid4()
    planner.post(
        f"/api/pems/conflicts/{resolved.pk}/resolve", {"resolution": "use_pems", "seenPemsVersion": 5}, format="json"
    )
    answer = ask(planner, ids=[str(resolved.pk), str(conflicts[1].pk), str(other)])
    assert ids(answer) == [str(conflicts[1].pk)]
    assert {each["id"] for each in answer.json()["skipped"]} == {str(resolved.pk), str(other)}


def test_what_changed_since_the_preview_is_skipped(planner, cast: Cast, conflicts) -> None:
    """K5, for each of many: moved in PEMS, resolved, withdrawn. The rest is applied."""
    token = ask(planner, filter={}).json()["previewToken"]
    moved, resolved, withdrawn, left = conflicts
    moved_in_pems(moved, areaSilo="West")
    planner.post(
        f"/api/pems/conflicts/{resolved.pk}/resolve", {"resolution": "use_pems", "seenPemsVersion": 5}, format="json"
    )
    people.withdraw_modification(membership=acts.member(cast.planner), modification=withdrawn.modification)
    answer = ask(planner, previewToken=token).json()
    assert (answer["applied"], answer["failed"]) == ([str(left.pk)], [])
    assert {each["id"]: each["reason"] for each in answer["skipped"]} == {
        str(moved.pk): "changed since the preview",
        str(resolved.pk): "resolved since the preview",
        str(withdrawn.pk): "resolved since the preview",
    }
    assert acts.fresh(moved.modification).state == "conflicted"


def test_one_that_others_have_looked_at_since_is_skipped_as_well(planner, conflicts) -> None:
    """It is up to date again, and still not what this person was shown."""
    token = ask(planner, ids=[str(conflicts[0].pk)]).json()["previewToken"]
    moved_in_pems(conflicts[0], model="360")
    assert refreshed(conflicts[0]).pems_version == 6
    answer = ask(planner, previewToken=token).json()
    assert answer["skipped"] == [{"id": str(conflicts[0].pk), "reason": "changed since the preview"}]
    assert Conflict.objects.unresolved().count() == 4


def test_one_that_moved_before_the_preview_is_shown_as_it_is_now(planner, conflicts) -> None:
    moved_in_pems(conflicts[0], model="360")
    answer = ask(planner, ids=[str(conflicts[0].pk)])
    item = answer.json()["items"][0]
    assert (item["pemsVersion"], item["fields"][0]["theirs"]) == (6, "360")
    assert ask(planner, previewToken=answer.json()["previewToken"]).json()["applied"] == [item["conflictId"]]


def test_one_that_fails_leaves_the_others_alone(planner, rio, cast: Cast, conflicts, make_record) -> None:
    """The lead's edit writes a field the planner may not: told beforehand, and again when it is tried."""
    record = make_record(rio)
    row = acts.draft(record, cast.lead, model="320", actualStart="2026-01-01")
    acts.moved_in_pems(record, model="340")
    acts.commit(membership=acts.member(cast.lead), modification_ids=[row.pk])
    barred = Conflict.objects.get(modification=row)
    shown = ask(planner, filter={}).json()
    item = next(each for each in shown["items"] if each["conflictId"] == str(barred.pk))
    assert [each["code"] for each in item["problems"]] == ["FIELD_NOT_EDITABLE"]
    answer = ask(planner, previewToken=shown["previewToken"]).json()
    assert len(answer["applied"]) == 4
    assert [(each["id"], each["error"]) for each in answer["failed"]] == [(str(barred.pk), "INVALID_CHANGES")]


def test_fewer_than_were_shown_may_be_applied(planner, conflicts) -> None:
    token = ask(planner, ids=[str(each.pk) for each in conflicts[:2]]).json()["previewToken"]
    answer = ask(planner, previewToken=token, ids=[str(conflicts[0].pk), str(conflicts[3].pk)]).json()
    assert answer["applied"] == [str(conflicts[0].pk)]
    assert answer["skipped"] == [{"id": str(conflicts[3].pk), "reason": "not in the preview"}]
    assert Conflict.objects.unresolved().count() == 3


def test_a_token_belongs_to_a_person_an_organization_and_a_resolution(api, planner, cast: Cast, conflicts) -> None:
    token = ask(planner, filter={}).json()["previewToken"]
    second = ask(api(cast.second), previewToken=token)
    assert (second.status_code, second.json()["error"]) == (400, "INVALID_PREVIEW_TOKEN")
    assert ask(planner, "use_pems", previewToken=token).status_code == 400
    assert ask(planner, previewToken=token[:-3] + "abc").json()["error"] == "INVALID_PREVIEW_TOKEN"
    outsider = ask(api(cast.outsider), previewToken=token, organizationId="org-portarthur")
    assert outsider.json()["error"] == "INVALID_PREVIEW_TOKEN"
    assert Conflict.objects.unresolved().count() == 4


def test_a_token_grows_old(planner, conflicts, monkeypatch) -> None:
    token = ask(planner, filter={}).json()["previewToken"]
    monkeypatch.setattr(bulk, "VALID_FOR", timedelta(seconds=-1))
    assert ask(planner, previewToken=token).json()["error"] == "INVALID_PREVIEW_TOKEN"


def test_a_token_shows_no_amounts(planner, rio, cast: Cast, make_record) -> None:
    record = make_record(rio)
    row = acts.draft(record, cast.planner, monthlyRate="6543.21")
    acts.moved_in_pems(record, monthlyRate="7654.32")
    acts.commit(membership=acts.member(cast.planner), modification_ids=[row.pk])
    Membership.objects.filter(user=cast.planner).update(permissions=["read", "resolve", "edit_forecast"])
    answer = ask(planner, filter={})
    assert answer.json()["items"][0]["changes"] == {"monthlyRate": None}
    held = str(signing.loads(answer.json()["previewToken"], salt="conflicts.bulk"))
    assert all(amount not in held + answer.content.decode() for amount in ("6543", "7654"))


def test_too_many_are_refused_before_anything_is_shown(planner, conflicts, monkeypatch) -> None:
    monkeypatch.setattr(bulk, "MOST_AT_ONCE", 3)
    answer = ask(planner, filter={})
    assert (answer.status_code, answer.json()["error"]) == (400, "TOO_MANY_CONFLICTS")
    assert "filter" in answer.json()["message"]


def test_merging_is_done_one_by_one(planner, conflicts) -> None:
    answer = ask(planner, "merge", filter={})
    assert (answer.status_code, answer.json()["error"]) == (400, "MERGE_NOT_AVAILABLE")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"filter": {}, "ids": [str(uuid4())]},
        {"filter": {"nope": 1}},
        {"filter": {"kind": "nope"}},
        {"ids": []},
        {"ids": ["nope"]},
        {"filter": {}, "preview": "yes"},
        {"filter": {}, "preview": False},
        {"filter": {}, "preview": True, "previewToken": "x"},
        {"previewToken": "x" * 100_001},
    ],
)
def test_a_bad_body_is_400(planner, conflicts, more) -> None:
    assert ask(planner, **more).status_code == 400
    assert Conflict.objects.unresolved().count() == 4


def test_conflicts_of_others_are_not_there(api, cast: Cast, conflicts) -> None:
    outsider = api(cast.outsider)
    assert ask(outsider, filter={}).status_code == 404
    answer = ask(outsider, organizationId="org-portarthur", ids=[str(conflicts[0].pk)])
    assert (answer.json()["count"], len(answer.json()["skipped"])) == (0, 1)
    assert ask(api(cast.viewer), filter={}).status_code == 403
