"""A record goes back to a version it had, a job as a whole is undone: by edits like any other (C11)."""

from __future__ import annotations

import pytest

from pems_sync.history import Source, tell, versions_of
from pems_sync.models import Job, Membership, Modification, Record
from pems_sync.models.job import JobKind
from pems_sync.services.rollback import RecordGoneError, preview, roll_back
from pems_sync.states import State
from tests.conftest import warm_pace
from tests.integration.api_acts import member
from tests.invariants import assert_applied_once, assert_invariants, assert_stored_equals_pems


@pytest.fixture
def record(engine):
    return engine.records[0]


def path_of(record: Record, what: str) -> str:
    return f"/api/pfa/org-rio/records/{record.pfa_id}/{what}"


def ask(client, record, **body):
    return client.post(path_of(record, "rollback"), body, format="json")


def history(record: Record):
    return tell(record, list(versions_of(record).order_by("-version", "-id")))


def planned(answer) -> dict:
    return {each["field"]: (each["from"], each["to"]) for each in answer.json()["changes"]}


def test_a_record_goes_back_to_what_it_was(engine, cast, record, api):
    was, first = record.fields["model"], record.version
    engine.edit(record, model="NEW", areaSilo="Moved")
    engine.settle()
    answer = ask(api(cast.lead), record, version=first, reason="the old one is back")
    assert answer.status_code == 202, answer.json()
    body = answer.json()
    assert (body["success"], body["queuedCount"], body["rejected"]) == (True, 1, [])
    job = Job.objects.get(pk=body["jobId"])
    assert (job.kind, job.author, job.reason, job.total) == (JobKind.ROLLBACK, cast.lead, "the old one is back", 1)
    engine.settle()
    assert engine.in_pems(record)["model"] == was
    newest = history(record)[0]
    assert (newest.source, newest.author, newest.reason) == (Source.ROLLBACK, "rio-lead", "the old one is back")
    assert {(each.field, each.before, each.after) for each in newest.changes} >= {("model", "NEW", was)}
    row = job.modifications.get()
    assert (row.state, row.authorised_by, row.base["model"]) == (State.CONFIRMED, cast.lead, "NEW")
    job.refresh_from_db()
    assert job.finished_at is not None
    assert_applied_once(engine)
    assert_stored_equals_pems(engine)
    assert_invariants(engine.organization)


def test_a_preview_starts_from_pems_as_it_is_now_and_stores_nothing_but_that(engine, cast, record, api):
    was, first = record.fields["model"], record.version
    engine.sandbox.edit(record.pfa_id, {"model": "BY-PEMS", "description": "Renamed in PEMS"})
    answer = ask(api(cast.lead), record, version=first, preview=True)
    assert answer.status_code == 200
    assert planned(answer) == {"model": ("BY-PEMS", was)}
    body = answer.json()
    assert (body["pemsVersion"], body["openEdits"], body["errors"], body["needsApproval"]) == (first + 1, 0, [], False)
    assert [each["field"] for each in body["skipped"]] == ["description"]
    assert not Modification.objects.exists()
    assert not Job.objects.filter(kind=JobKind.ROLLBACK).exists()
    assert Record.objects.get(pk=record.pk).version == first + 1, "what was read is kept"
    assert_stored_equals_pems(engine)


def test_fields_one_may_not_edit_stay_and_are_named(engine, cast, record, api):
    Membership.objects.filter(user=cast.lead).update(permissions=["read", "rollback", "edit_actuals"])
    first = record.version
    engine.sandbox.edit(record.pfa_id, {"model": "BY-PEMS", "actualStart": "2026-02-01"})
    client = api(cast.lead)
    body = ask(client, record, version=first, preview=True).json()
    assert [each["field"] for each in body["changes"]] == ["actualStart"]
    assert body["skipped"] == [
        {"field": "model", "reason": "You may not edit it: that needs the permission 'edit_forecast'."}
    ]
    assert ask(client, record, version=first, reason="r").status_code == 202
    assert Modification.objects.get().changes == {"actualStart": record.fields["actualStart"]}


def test_a_record_that_would_break_a_rule_is_not_brought_back(engine, cast, record, api):
    first = record.version
    engine.sandbox.edit(record.pfa_id, {"isDiscontinued": True})
    client = api(cast.lead)
    body = ask(client, record, version=first, preview=True).json()
    assert [(each["field"], each["code"]) for each in body["errors"]] == [("isDiscontinued", "BUSINESS_RULE_VIOLATION")]
    refused = ask(client, record, version=first, reason="r")
    assert (refused.status_code, refused.json()["error"]) == (400, "INVALID_CHANGES")
    assert refused.json()["details"]["fields"] == body["errors"]
    assert not Modification.objects.exists()


def test_back_to_a_discontinued_version_is_a_soft_delete(engine, cast, record, api):
    """Reactivated in PEMS by somebody who may: the way back is DELETE, alone (API.md, Rules)."""
    engine.sandbox.edit(record.pfa_id, {"isDiscontinued": True})
    engine.pull()
    discontinued = Record.objects.get(pk=record.pk).version
    engine.sandbox.edit(record.pfa_id, {"isDiscontinued": False})
    answer = ask(api(cast.lead), record, version=discontinued, reason="gone after all")
    assert answer.status_code == 202, answer.json()
    assert Modification.objects.get().operation == "DELETE"
    engine.settle()
    assert engine.in_pems(record)["isDiscontinued"] is True


def test_nothing_to_bring_back_is_said(engine, cast, record, api):
    client = api(cast.lead)
    assert planned(ask(client, record, version=record.version, preview=True)) == {}
    refused = ask(client, record, version=record.version, reason="r")
    assert (refused.status_code, refused.json()["error"]) == (409, "NOTHING_TO_DO")
    assert not Job.objects.filter(kind=JobKind.ROLLBACK).exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"version": 1}, "reason"),
        ({"version": 1, "reason": "  "}, "reason"),
        ({"version": 1, "reason": "<b></b>"}, "reason"),
        ({"reason": "r"}, "version"),
        ({"version": "1", "reason": "r"}, "version"),
        ({"version": 1, "reason": "r", "preview": "yes"}, "preview"),
        ({"version": 1, "reason": "r", "force": True}, "force"),
    ],
)
def test_a_body_that_is_not_as_it_must_be_is_refused(rio, cast, make_record, api, body, field):
    refused = ask(api(cast.lead), make_record(rio), **body)
    assert refused.status_code == 400
    assert [each["field"] for each in refused.json()["details"]["fields"]] == [field]


@pytest.mark.parametrize("version", [3, 5])
def test_a_version_that_was_never_seen_is_refused_before_pems_is_asked(rio, cast, make_record, api, version):
    refused = ask(api(cast.lead), make_record(rio, version=4), version=version, reason="r")
    assert (refused.status_code, refused.json()["error"]) == (400, "UNKNOWN_BASE_VERSION")


def test_who_may_roll_back(engine, cast, record, api):
    """Strangers learn nothing (S1); a planner may not, a lead may."""
    body = {"version": record.version, "preview": True}
    assert [
        ask(api(user), record, **body).status_code
        for user in (cast.outsider, cast.viewer, cast.planner, cast.lead, cast.admin)
    ] == [404, 403, 403, 200, 200]
    assert api(cast.lead).post("/api/pfa/org-rio/records/PFA-0/rollback", body, format="json").status_code == 404
    assert api(cast.lead).post(path_of(record, "rollback").replace("rio", "portarthur")).status_code == 404


def test_without_pems_nothing_is_planned(rio, cast, make_record, api):
    warm_pace(rio.connection)  # it leads nowhere
    record = make_record(rio)
    refused = ask(api(cast.lead), record, version=record.version, preview=True)
    assert (refused.status_code, refused.json()["error"]) == (503, "PEMS_UNAVAILABLE")


def test_a_record_that_is_gone_cannot_be_brought_back(engine, cast, record):
    engine.sandbox.remove(record.pfa_id)
    with pytest.raises(RecordGoneError):
        preview(membership=member(cast.lead), pfa_id=record.pfa_id, version=record.version)
    assert Record.objects.get(pk=record.pk).deleted_at is not None


def test_it_goes_behind_an_edit_under_way_and_leaves_a_draft_alone(engine, cast, record):
    """The lane keeps the order; nothing is folded, so that history tells them apart."""
    first, lead = record.version, member(cast.lead)
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    engine.pull()
    earlier = engine.edit(record, by=cast.lead, model="EARLIER")
    draft = engine.draft(record, by=cast.lead, manufacturer="DRAFTED")
    found = preview(membership=lead, pfa_id=record.pfa_id, version=first)
    assert (found.open_edits, list(found.plan.changes)) == (1, ["areaSilo"])
    done = roll_back(membership=lead, pfa_id=record.pfa_id, version=first, reason="r")
    row = done.job.modifications.get()
    assert (row.is_head, engine.row(earlier).is_head) == (False, True)
    engine.settle()
    assert [engine.state(each) for each in (earlier, row, draft)] == [State.CONFIRMED, State.CONFIRMED, State.DRAFT]
    shown = engine.in_pems(record)
    assert (shown["model"], shown["areaSilo"]) == ("EARLIER", record.fields["areaSilo"])
    assert engine.row(draft).changes == {"manufacturer": "DRAFTED"}
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_pems_moving_the_same_field_on_the_way_is_a_conflict_like_any_other(engine, cast, record):
    first = record.version
    engine.sandbox.edit(record.pfa_id, {"model": "SECOND"})
    done = roll_back(membership=member(cast.lead), pfa_id=record.pfa_id, version=first, reason="r")
    engine.sandbox.edit(record.pfa_id, {"model": "THIRD"})
    engine.settle()
    row = done.job.modifications.get()
    assert row.state == State.CONFLICTED
    assert row.conflicts.get().fields[0]["ours"] == record.fields["model"]
    assert_invariants(engine.organization)


def test_amounts_are_hidden_from_those_who_may_not_see_them(engine, cast, record, api):
    first = record.version
    engine.sandbox.edit(record.pfa_id, {"monthlyRate": 7777.5})
    Membership.objects.filter(user=cast.lead).update(permissions=["read", "rollback", "edit_forecast"])
    client = api(cast.lead)
    answer = ask(client, record, version=first, preview=True)
    assert (planned(answer), answer.json()["masked"]) == ({"monthlyRate": (None, None)}, True)
    assert "7777" not in client.get(path_of(record, "history")).content.decode()


def test_a_rollback_that_is_asked_for_twice_is_written_once(engine, cast, record, api):
    """The answer to the first was lost, and its edit still waits."""
    first = record.version
    engine.edit(record, model="NEW")
    engine.settle()
    written = len(engine.sandbox.audit(record.pfa_id))
    for _ in range(2):
        assert ask(api(cast.lead), record, version=first, reason="back").status_code == 202
    engine.settle()
    assert len(engine.sandbox.audit(record.pfa_id)) == written + 1
    assert not Modification.objects.filter(record=record).exclude(state=State.CONFIRMED).exists()
    assert_applied_once(engine)
