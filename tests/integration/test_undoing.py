"""A job as a whole is undone, wherever PEMS still shows what it wrote; once (C11)."""

from __future__ import annotations

import pytest

from pems_sync.history import Source, tell, versions_of
from pems_sync.models import Job, Modification
from pems_sync.models.job import JobKind
from pems_sync.services import undoing
from pems_sync.services.committing import commit
from pems_sync.services.rollback import roll_back
from pems_sync.states import State
from tests.integration.api_acts import member
from tests.invariants import assert_applied_once, assert_invariants, assert_stored_equals_pems


@pytest.fixture
def record(engine):
    return engine.records[0]


@pytest.fixture
def five(engine):
    """A write-sync of five edits that PEMS applied."""
    rows = [engine.draft(each, model="NEW", forecastStart="2020-01-01") for each in engine.records[:5]]
    job = commit(membership=engine.member(), modification_ids=[row.pk for row in rows], reason="plan B").job
    engine.settle()
    job.refresh_from_db()
    assert job.finished_at is not None
    return job


def undo(client, job, **body):
    return client.post(f"/api/pems/sync-logs/{job.pk}/undo", body, format="json")


def test_a_job_is_undone_where_pems_still_shows_what_it_wrote(engine, cast, five, api):
    changed, barred, *others = engine.records[:5]
    engine.sandbox.edit(changed.pfa_id, {"model": "BY-PEMS"})
    engine.sandbox.edit(barred.pfa_id, {"forecastEnd": "2020-06-01"})
    client = api(cast.lead)
    before = client.get("/api/pems/sync-logs", {"organizationId": "org-rio"}).json()["items"]
    plan = undo(client, five, preview=True)
    assert plan.status_code == 200, plan.json()
    items = {item["pfaId"]: item for item in plan.json()["items"]}
    assert {each["field"] for each in items[others[0].pfa_id]["changes"]} == {"model", "forecastStart"}
    assert [each["field"] for each in items[changed.pfa_id]["changes"]] == ["forecastStart"]
    assert items[changed.pfa_id]["skipped"] == [
        {"field": "model", "reason": "It was changed since, and stays as it is now."}
    ]
    assert plan.json()["counts"] == {"records": 5, "restored": 4, "refused": 1, "unchanged": 0, "skippedFields": 1}
    errors = items[barred.pfa_id]["errors"]
    assert [(each["field"], each["code"]) for each in errors] == [("forecastEnd", "INVALID_DATE_ORDER")]
    assert client.get("/api/pems/sync-logs", {"organizationId": "org-rio"}).json()["items"] == before

    done = undo(client, five, reason="plan A after all").json()
    assert (done["queuedCount"], len(done["rejected"])) == (4, 1)
    job = Job.objects.get(pk=done["jobId"])
    assert (job.kind, job.undoes, job.reason, job.total) == (JobKind.UNDO, five, "plan A after all", 4)
    assert [each["pfaId"] for each in job.errors] == [barred.pfa_id]
    engine.settle()
    for record in others:
        shown = engine.in_pems(record)
        assert (shown["model"], shown["forecastStart"]) == (record.fields["model"], record.fields["forecastStart"])
    assert engine.in_pems(changed)["model"] == "BY-PEMS"
    assert engine.in_pems(changed)["forecastStart"] == changed.fields["forecastStart"]
    assert engine.in_pems(barred)["model"] == "NEW"
    assert tell(others[0], list(versions_of(others[0]).order_by("-version", "-id")[:1]))[0].source == Source.ROLLBACK
    assert_applied_once(engine)
    assert_stored_equals_pems(engine)
    assert_invariants(engine.organization)


def test_a_job_is_undone_once(engine, cast, five, api):
    client = api(cast.lead)
    assert undo(client, five, reason="r").status_code == 202
    for body in ({"reason": "r"}, {"preview": True}):
        again = undo(client, five, **body)
        assert (again.status_code, again.json()["error"]) == (409, "ALREADY_UNDONE")
    assert Modification.objects.filter(job__undoes=five).count() == 5


def test_what_pems_held_already_is_not_undone(engine, cast, record, api):
    """A converged edit wrote nothing: bringing back its base would undo somebody else's change (K3)."""
    row = engine.draft(record, model="SAME")
    engine.sandbox.edit(record.pfa_id, {"model": "SAME"})
    job = commit(membership=engine.member(), modification_ids=[row.pk]).job
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    item = undo(api(cast.lead), job, preview=True).json()["items"][0]
    assert (item["changes"], item["skipped"][0]["field"]) == ([], "model")
    assert undo(api(cast.lead), job, reason="r").json()["error"] == "NOTHING_TO_DO"


def test_what_pems_changed_alike_on_the_way_stays(engine, cast, record, api):
    """Both sides made the same change of one field: the job found it there, and only the rest was its own (K3)."""
    row = engine.draft(record, model="SAME", areaSilo="OURS")
    engine.sandbox.edit(record.pfa_id, {"model": "SAME"})
    job = commit(membership=engine.member(), modification_ids=[row.pk]).job
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    item = undo(api(cast.lead), job, preview=True).json()["items"][0]
    assert item["changes"] == [{"field": "areaSilo", "from": "OURS", "to": record.fields["areaSilo"]}]


def test_a_job_under_way_or_of_another_kind_is_not_undone(engine, cast, record, api):
    client = api(cast.lead)
    waiting = engine.edit(record, model="NEW").job
    assert undo(client, waiting, reason="r").json()["error"] == "JOB_UNDER_WAY"
    pull = Job.objects.create(organization=engine.organization, kind=JobKind.PULL, started_at=waiting.started_at)
    refused = undo(client, pull, reason="r")
    assert (refused.status_code, refused.json()["error"]) == (400, "NOT_UNDOABLE")


def test_a_rollback_can_be_undone(engine, cast, record, api):
    engine.edit(record, model="NEW")
    engine.settle()
    job = roll_back(membership=member(cast.lead), pfa_id=record.pfa_id, version=record.version, reason="r").job
    engine.settle()
    assert undo(api(cast.lead), job, reason="r").status_code == 202
    engine.settle()
    assert engine.in_pems(record)["model"] == "NEW"


def test_who_may_undo(engine, cast, five, api):
    statuses = [undo(api(user), five, preview=True).status_code for user in (cast.outsider, cast.planner, cast.lead)]
    assert statuses == [404, 403, 200]
    assert undo(api(cast.lead), five, reason=" ").status_code == 400


def test_many_records_are_read_as_one_list(engine, cast, monkeypatch):
    """More than twenty would be a read each (pems_sync.reading): here three are many."""
    monkeypatch.setattr("pems_sync.reading.MOST_SINGLE_READS", 2)
    records = engine.records[:3]
    rows = [engine.draft(each, model="NEW") for each in records]
    job = commit(membership=engine.member(), modification_ids=[row.pk for row in rows]).job
    engine.settle()
    engine.sandbox.edit(records[0].pfa_id, {"model": "BY-PEMS"})
    job.refresh_from_db()
    asked = engine.sandbox.stats()["requests"]["total"]
    found = undoing.preview(membership=member(cast.lead), job=job)
    assert [item.goes_on for item in found.items] == [False, True, True]
    assert engine.sandbox.stats()["requests"]["total"] == asked + 1


def test_records_that_pems_no_longer_knows_are_left_out(engine, cast, five, api):
    lost = engine.records[0]
    engine.sandbox.remove(lost.pfa_id)
    item = undo(api(cast.lead), five, preview=True).json()["items"][0]
    assert (item["pfaId"], item["changes"]) == (lost.pfa_id, [])
    assert {each["reason"] for each in item["skipped"]} == {"PEMS no longer knows the record."}
    assert undo(api(cast.lead), five, reason="r").json()["queuedCount"] == 4


def test_too_many_are_refused_in_a_sentence(engine, cast, five, api, monkeypatch):
    monkeypatch.setattr(undoing, "MOST_AT_ONCE", 4)
    refused = undo(api(cast.lead), five, preview=True)
    assert (refused.status_code, refused.json()["error"]) == (400, "TOO_MANY")


def test_where_every_record_is_refused_nothing_is_queued_and_it_may_be_tried_again(engine, cast, five, api):
    for record in engine.records[:5]:
        engine.sandbox.edit(record.pfa_id, {"forecastEnd": "2020-06-01"})
    done = undo(api(cast.lead), five, reason="r").json()
    assert (done["success"], done["jobId"], done["queuedCount"], len(done["rejected"])) == (False, None, 0, 5)
    assert not five.undone_by.exists()
