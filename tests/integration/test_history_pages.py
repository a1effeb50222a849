"""The admin's pages for history, rollback, undo and approvals: looked at by members, acted on with the permission."""

from __future__ import annotations

import re

import pytest

from pems_sync.models import Approval, Job, Membership, Modification, Organization
from pems_sync.services.committing import commit
from tests.integration import api_acts as acts
from tests.integration.admin_cast import list_of, page_of, staff, superuser

RECORD, JOB, APPROVAL = "pems_sync_record", "pems_sync_job", "pems_sync_approval"


def beside(model: str, row, name: str) -> str:
    return page_of(model, row).replace("/change/", f"/{name}/")


def post(client, path, **form):
    """As the form of the page does it, token included."""
    client.get(list_of(RECORD))
    token = client.cookies["csrftoken"].value
    return client.post(path, form | {"csrfmiddlewaretoken": token}, follow=True)


def text_of(response) -> str:
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


@pytest.fixture
def moved(engine):
    """A record with a version by PEMS after the first one seen."""
    record = engine.records[0]
    engine.sandbox.edit(record.pfa_id, {"model": "BY-PEMS", "description": "Renamed"})
    engine.pull()
    return record


def test_a_history_shows_versions_side_by_side(rio, cast, make_record):
    record = make_record(rio)
    acts.moved_in_pems(record, model="NEXT", monthlyRate="7777.77")
    text = text_of(staff(cast.viewer).get(beside(RECORD, record, "history")))
    assert "<strong>model</strong>: 330 → NEXT" in text
    assert "<strong>monthlyRate</strong>: 5500.00 → 7777.77" in text
    assert '<span class="status status-PEMS">PEMS</span>' in text
    assert "first seen" in text
    assert 'href="' + beside(RECORD, record, "history") in text_of(staff(cast.viewer).get(page_of(RECORD, record)))


def test_only_who_may_roll_back_is_offered_to(rio, cast, make_record):
    record = make_record(rio)
    acts.moved_in_pems(record, model="NEXT")
    path = beside(RECORD, record, "history")
    assert "Preview the rollback" in text_of(staff(cast.lead).get(path))
    for client in (staff(cast.planner), superuser()):
        assert "Preview the rollback" not in text_of(client.get(path))
        assert post(client, beside(RECORD, record, "rollback"), version="4").status_code == 403
    assert staff(cast.outsider).get(path).status_code == 404
    assert post(staff(cast.outsider), beside(RECORD, record, "rollback"), version="4").status_code == 404


def test_amounts_are_hidden_from_those_who_may_not_see_them(rio, cast, make_record):
    record = make_record(rio)
    acts.moved_in_pems(record, monthlyRate="7777.77")
    Membership.objects.filter(user=cast.viewer).update(permissions=["read"])
    text = text_of(staff(cast.viewer).get(beside(RECORD, record, "history")))
    assert "7777.77" not in text
    assert "<strong>monthlyRate</strong>: hidden → hidden" in text


def test_a_long_history_is_paged(rio, cast, make_record):
    record = make_record(rio, model="0")
    for number in range(30):
        acts.moved_in_pems(record, model=f"M{number}")
    client, path = staff(cast.viewer), beside(RECORD, record, "history")
    first = text_of(client.get(path))
    assert "→ M29" in first
    assert "first seen" not in first
    earlier = re.search(r'href="(\?cursor=[^"]+)"', first)
    assert "first seen" in text_of(client.get(path + earlier[1]))
    assert client.get(path + "?cursor=x").status_code == 404


def test_a_rollback_is_previewed_reasoned_and_queued(engine, cast, moved):
    client, path = staff(cast.lead), beside(RECORD, moved, "rollback")
    text = text_of(post(client, path, version=str(moved.version)))
    assert f'<th scope="row">model</th><td>BY-PEMS</td><td>{moved.fields["model"]}</td>' in text
    assert "<strong>description</strong>: It may be edited in PEMS only." in text
    assert '<label for="id_reason">' in text
    form = {"version": str(moved.version), "seen": str(moved.version + 1), "apply": "yes"}
    assert "Say why" in text_of(post(client, path, **form))
    assert not Modification.objects.exists()
    done = post(client, path, reason="the old one is back", **form)
    assert "queued, to be sent at its turn" in text_of(done)
    assert Modification.objects.get().reason == "the old one is back"
    engine.settle()
    history = text_of(client.get(beside(RECORD, moved, "history")))
    assert '<span class="status status-rollback">rollback</span>' in history
    assert "the old one is back" in history


def test_pems_moving_after_the_preview_shows_it_again(engine, cast, moved):
    engine.sandbox.edit(moved.pfa_id, {"model": "AGAIN"})
    form = {"version": str(moved.version), "seen": str(moved.version + 1), "apply": "yes", "reason": "r"}
    text = text_of(post(staff(cast.lead), beside(RECORD, moved, "rollback"), **form))
    assert "PEMS changed the record since you looked" in text
    assert "<td>AGAIN</td>" in text
    assert not Modification.objects.exists()


@pytest.mark.parametrize("version", ["", "x", "٣", "-1", "99", "9" * 40])
def test_a_version_that_is_none_is_said(rio, cast, make_record, version):
    text = text_of(post(staff(cast.lead), beside(RECORD, make_record(rio), "rollback"), version=version))
    assert "This is not a version of the record that was seen here" in text


def test_acting_needs_post_and_its_token(rio, cast, make_record):
    client, path = staff(cast.lead), beside(RECORD, make_record(rio), "rollback")
    assert client.post(path, {"version": "4"}).status_code == 403
    assert client.get(path).status_code == 302


def test_what_people_and_pems_typed_is_escaped(engine, cast):
    evil = "<script>alert(1)</script>"
    record = engine.records[0]
    acts.moved_in_pems(record, model=evil)
    client = staff(cast.lead)
    history = text_of(client.get(beside(RECORD, record, "history")))
    assert evil not in history
    assert "&lt;script&gt;" in history
    assert "<script>alert" not in text_of(post(client, beside(RECORD, record, "rollback"), version=evil))


@pytest.fixture
def job(engine) -> Job:
    rows = [engine.draft(record, model="NEW") for record in engine.records[:2]]
    job = commit(membership=engine.member(), modification_ids=[row.pk for row in rows]).job
    engine.settle()
    assert job is not None
    return job


def test_a_job_is_undone_after_a_look(engine, cast, job):
    client, path = staff(cast.lead), beside(JOB, job, "undo")
    assert f'href="{path}"' in text_of(client.get(page_of(JOB, job)))
    assert "Preview the undo" in text_of(client.get(path))
    text = text_of(post(client, path))
    assert "2 of 2 records would change." in text
    assert "<td>NEW</td>" in text
    assert "Say why" in text_of(post(client, path, apply="yes", reason=" "))
    assert "Queued, to be sent at their turn: 2." in text_of(post(client, path, apply="yes", reason="plan A"))
    assert Modification.objects.filter(job__undoes=job).count() == 2
    assert "This job was undone before" in text_of(post(client, path, apply="yes", reason="plan A"))


def test_who_may_undo(engine, cast, job):
    path = beside(JOB, job, "undo")
    for client in (staff(cast.planner), superuser()):
        assert client.get(path).status_code == 403
        assert post(client, path).status_code == 403
        assert f'href="{path}"' not in text_of(client.get(page_of(JOB, job)))
    assert staff(cast.outsider).get(path).status_code == 404


@pytest.fixture
def waiting(engine, cast, rio) -> Approval:
    """A rollback that the lead asked for, on the page."""
    Organization.objects.filter(pk=rio.pk).update(second_approval=True, money_threshold=100)
    record = engine.records[0]
    engine.sandbox.edit(record.pfa_id, {"monthlyRate": 98765.43})
    form = {"version": str(record.version), "seen": str(record.version + 1), "apply": "yes", "reason": "too dear"}
    text = text_of(post(staff(cast.lead), beside(RECORD, record, "rollback"), **form))
    assert "Another person must agree first" in text
    return Approval.objects.get()


def test_another_person_agrees_on_the_page(engine, cast, waiting):
    path = beside(APPROVAL, waiting, "decide")
    client = staff(cast.admin)
    assert waiting.summary in text_of(client.get(list_of(APPROVAL, standing="open")))
    assert f'href="{path}"' in text_of(client.get(page_of(APPROVAL, waiting)))
    amount = waiting.payload["changes"]["monthlyRate"]
    assert f'<th scope="row">monthlyRate</th><td>98765.43</td><td>{amount}</td>' in text_of(client.get(path))
    assert "Reason: too dear" in text_of(client.get(path))
    assert "another person has to decide it" in text_of(post(staff(cast.lead), path, approve="yes"))
    assert "Agreed, and carried out." in text_of(post(client, path, approve="yes", comment="indeed"))
    assert Modification.objects.get().authorised_by == cast.admin
    assert "Somebody decided this before you" in text_of(post(client, path, reject="yes"))


def test_the_undo_of_a_job_is_shown_record_by_record(engine, cast, rio):
    Organization.objects.filter(pk=rio.pk).update(second_approval=True, money_threshold=100)
    rows = [engine.draft(record, monthlyRate="99999.00") for record in engine.records[:2]]
    job = commit(membership=engine.member(), modification_ids=[row.pk for row in rows]).job
    engine.settle()
    assert "Another person must agree first" in text_of(
        post(staff(cast.lead), beside(JOB, job, "undo"), apply="yes", reason="r")
    )
    text = text_of(staff(cast.viewer).get(page_of(APPROVAL, Approval.objects.get())))
    assert all(f"<h4>{record.pfa_id}</h4>" in text for record in engine.records[:2])
    assert text.count("<td>99999.00</td>") == 2
    Membership.objects.filter(user=cast.viewer).update(permissions=["read"])
    assert "99999" not in text_of(staff(cast.viewer).get(page_of(APPROVAL, Approval.objects.get())))


def test_another_person_refuses_on_the_page(cast, waiting):
    path = beside(APPROVAL, waiting, "decide")
    assert "Refused; nothing was carried out." in text_of(post(staff(cast.admin), path, reject="yes"))
    assert not Modification.objects.exists()
    assert "refused" in text_of(staff(cast.viewer).get(page_of(APPROVAL, waiting)))


def test_approvals_of_others_do_not_exist(cast, waiting):
    client = staff(cast.outsider)
    assert waiting.summary not in text_of(client.get(list_of(APPROVAL)))
    assert client.get(beside(APPROVAL, waiting, "decide")).status_code == 404
    assert post(staff(cast.planner), beside(APPROVAL, waiting, "decide"), approve="yes").status_code == 403
