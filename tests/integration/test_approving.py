"""Above the threshold a second person agrees, or refuses: never the one who asked, and once."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pems_sync.models import Approval, JournalEntry, Membership, Modification, Organization
from pems_sync.services.approving import needs_second
from pems_sync.services.committing import commit
from pems_sync.states import State
from tests.invariants import assert_invariants


@pytest.mark.parametrize(
    ("before", "after", "needed"),
    [
        ("1000.00", "1500.00", False),
        ("1000.00", "1500.01", True),
        ("1500.01", "1000.00", True),
        (None, "500.01", True),
        ("500.00", None, False),
        ("500.01", None, True),
        (None, None, False),
    ],
)
def test_the_threshold(before, after, needed):
    organization = Organization(second_approval=True, money_threshold=Decimal(500))
    assert needs_second(organization, {"monthlyRate": before}, {"monthlyRate": after, "model": "X"}) is needed


@pytest.mark.parametrize(("second", "threshold"), [(False, Decimal(1)), (True, None), (False, None)])
def test_it_is_off_unless_an_organization_asks_for_it(second, threshold):
    organization = Organization(second_approval=second, money_threshold=threshold)
    assert not needs_second(organization, {"monthlyRate": "1.00"}, {"monthlyRate": "9999.00"})
    assert not Organization().second_approval


@pytest.fixture
def record(engine, rio):
    """Its rate was changed in PEMS by more than the threshold."""
    Organization.objects.filter(pk=rio.pk).update(second_approval=True, money_threshold=100)
    record = engine.records[0]
    engine.sandbox.edit(record.pfa_id, {"monthlyRate": 98765.43})
    return record


def ask(client, record, **body):
    body = {"version": record.version, "reason": "too dear"} | body
    return client.post(f"/api/pfa/org-rio/records/{record.pfa_id}/rollback", body, format="json")


def decide(client, approval_id, word, **body):
    return client.post(f"/api/pems/approvals/{approval_id}/{word}", body, format="json")


@pytest.fixture
def asked(record, cast, api) -> str:
    answer = ask(api(cast.lead), record)
    assert answer.status_code == 202, answer.json()
    return answer.json()["approvalId"]


def test_what_needs_a_second_person_is_kept_and_said(engine, cast, record, api):
    client = api(cast.lead)
    assert ask(client, record, preview=True).json()["needsApproval"] is True
    answer = ask(client, record)
    body = answer.json()
    assert (answer.status_code, body["success"], body["error"]) == (202, False, "APPROVAL_PENDING")
    assert body["message"].startswith("Another person must agree first")
    shown = client.get("/api/pems/approvals?organizationId=org-rio&status=open").json()["items"]
    assert [each["id"] for each in shown] == [body["approvalId"]]
    assert (shown[0]["kind"], shown[0]["subject"], shown[0]["askedBy"]) == ("rollback", record.pfa_id, "rio-lead")
    assert shown[0]["payload"]["changes"] == {"monthlyRate": record.fields["monthlyRate"]}
    assert not Modification.objects.exists()
    assert JournalEntry.objects.get(kind="approval_asked").actor == "rio-lead"
    again = ask(client, record)
    assert (again.status_code, again.json()["error"]) == (409, "APPROVAL_OPEN")
    assert Approval.objects.count() == 1


def test_another_person_agrees_and_it_is_carried_out(engine, cast, record, asked, api):
    answer = decide(api(cast.admin), asked, "approve", comment="indeed")
    assert answer.status_code == 200, answer.json()
    shown = answer.json()
    assert (shown["status"], shown["approved"], shown["decidedBy"], shown["comment"]) == (
        "decided", True, "rio-admin", "indeed",
    )  # fmt: skip
    row = Modification.objects.get()
    assert (row.author, row.authorised_by, row.reason) == (cast.lead, cast.admin, "too dear")
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert engine.in_pems(record)["monthlyRate"] == pytest.approx(float(record.fields["monthlyRate"]))
    assert JournalEntry.objects.get(kind="approval_decided").after["approved"] is True
    assert_invariants(engine.organization)


def test_nobody_agrees_to_what_they_asked_for(cast, asked, api):
    for word in ("approve", "reject"):
        refused = decide(api(cast.lead), asked, word)
        assert (refused.status_code, refused.json()["error"]) == (403, "FORBIDDEN")
        assert "another person" in refused.json()["message"]
    assert not Modification.objects.exists()


def test_it_is_decided_once(cast, asked, api):
    client = api(cast.admin)
    assert decide(client, asked, "reject", comment="no").json()["approved"] is False
    for word in ("approve", "reject"):
        again = decide(client, asked, word)
        assert (again.status_code, again.json()["error"]) == (409, "ALREADY_DECIDED")
    assert not Modification.objects.exists()


def test_after_a_refusal_one_may_ask_anew(cast, record, asked, api):
    decide(api(cast.admin), asked, "reject")
    assert ask(api(cast.lead), record).json()["approvalId"] != asked


def test_what_would_change_something_else_by_now_is_not_carried_out(engine, cast, record, asked, api):
    """PEMS has the old value again: agreeing to nothing is refused, and it stays open."""
    engine.sandbox.edit(record.pfa_id, {"monthlyRate": float(record.fields["monthlyRate"])})
    refused = decide(api(cast.admin), asked, "approve")
    assert (refused.status_code, refused.json()["error"]) == (409, "APPROVAL_OVERTAKEN")
    assert Approval.objects.get().decided_at is None
    assert not Modification.objects.exists()


def test_whoever_agrees_needs_the_rights_to_write_it(cast, record, asked, api):
    Membership.objects.filter(user=cast.admin).update(permissions=["read", "rollback"])
    assert decide(api(cast.admin), asked, "approve").json()["error"] == "APPROVAL_OVERTAKEN"
    assert not Modification.objects.exists()


def test_who_may_decide_and_who_may_look(cast, asked, api):
    assert [decide(api(user), asked, "reject").status_code for user in (cast.outsider, cast.viewer, cast.planner)] == [
        404,
        403,
        403,
    ]
    path = "/api/pems/approvals?organizationId=org-rio"
    assert [api(user).get(path).status_code for user in (cast.outsider, cast.viewer)] == [404, 200]
    assert decide(api(cast.admin), "no-id", "approve").status_code == 404
    assert decide(api(cast.admin), asked, "approve", force=True).status_code == 400


def test_amounts_are_hidden_in_what_waits(cast, record, asked, api):
    Membership.objects.filter(user=cast.viewer).update(permissions=["read"])
    shown = api(cast.viewer).get("/api/pems/approvals?organizationId=org-rio").json()["items"][0]
    assert (shown["masked"], shown["payload"]["changes"]) == (True, {"monthlyRate": None})
    assert record.fields["monthlyRate"] not in shown["summary"]


def test_the_undo_of_a_job_waits_as_well(engine, cast, rio, api):
    rows = [engine.draft(each, monthlyRate="90000.00") for each in engine.records[:2]]
    job = commit(membership=engine.member(), modification_ids=[row.pk for row in rows]).job
    engine.settle()
    Organization.objects.filter(pk=rio.pk).update(second_approval=True, money_threshold=100)
    path = f"/api/pems/sync-logs/{job.pk}/undo"
    answer = api(cast.lead).post(path, {"reason": "too dear"}, format="json")
    assert (answer.status_code, answer.json()["error"]) == (202, "APPROVAL_PENDING")
    engine.sandbox.edit(engine.records[1].pfa_id, {"monthlyRate": 5})
    assert decide(api(cast.admin), answer.json()["approvalId"], "approve").status_code == 200
    engine.settle()
    assert engine.in_pems(engine.records[0])["monthlyRate"] == pytest.approx(
        float(engine.records[0].fields["monthlyRate"])
    )
    assert engine.in_pems(engine.records[1])["monthlyRate"] == 5, "it was changed since"
    assert job.undone_by.get().author == cast.lead
    assert_invariants(engine.organization)
