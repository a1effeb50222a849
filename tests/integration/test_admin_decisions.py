"""Retry, withdraw and discard in the admin: through the services, row by row, by members who may sync."""

from __future__ import annotations

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from pems_sync.models import JournalEntry, Membership, Modification
from pems_sync.models.organization import Permission
from pems_sync.states import DeadReason, State
from tests.integration.admin_cast import act, list_of, make_modification, staff, superuser

MODIFICATION, DEAD = "pems_sync_modification", "pems_sync_deadletter"


def said(response) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)] or [
        str(message) for message in response.context["messages"]
    ]


def state(row: Modification) -> str:
    return Modification.objects.get(pk=row.pk).state


def test_each_row_of_a_retry_is_told_its_own_fate(rio, cast):
    dead = make_modification(rio, cast.planner, state=State.DEAD)
    done = make_modification(rio, cast.planner, state=State.CONFIRMED, finished_at=dead.saved_at)
    client = staff(cast.lead)
    response = act(client, MODIFICATION, "retry_now", dead, done)
    assert sorted(said(response)) == sorted(
        [
            f"{dead.pfa_id} (org-rio): Queued, to be sent at its turn.",
            f"{done.pfa_id} (org-rio): A modification that is confirmed is final.",
        ]
    )
    assert (state(dead), state(done)) == (State.QUEUED, State.CONFIRMED)
    entry = JournalEntry.objects.get(modification_id=dead.pk)
    assert (entry.kind, entry.actor, entry.on_behalf_of) == ("modification_queued", "rio-lead", "rio-planner")
    assert entry.request_id


def test_a_dead_letter_that_may_still_land_is_read_back_first(rio, cast):
    row = make_modification(rio, cast.planner, state=State.DEAD, may_still_land=True, exposed=True)
    response = act(staff(cast.planner), DEAD, "retry_now", row)
    assert said(response) == [f"{row.pfa_id} (org-rio): It may have reached PEMS, so PEMS is read back first."]
    assert Modification.objects.get(pk=row.pk).read_back_for == "retry"


def test_withdraw_asks_first_and_may_be_given_a_reason(rio, cast):
    row = make_modification(rio, cast.planner)
    client = staff(cast.planner)
    asked = act(client, MODIFICATION, "withdraw", row)
    assert b"Withdraw 1 modification?" in asked.content
    assert state(row) == State.QUEUED
    response = act(client, MODIFICATION, "withdraw", row, confirmed="yes", reason="<b>no longer</b> needed & paid")
    assert said(response) == [f"{row.pfa_id} (org-rio): Withdrawn; it will not be sent."]
    assert state(row) == State.WITHDRAWN
    assert JournalEntry.objects.get(modification_id=row.pk).reason == "no longer needed & paid"


def test_what_may_still_land_is_not_withdrawn(rio, cast):
    row = make_modification(rio, cast.planner, exposed=True)
    response = act(staff(cast.planner), MODIFICATION, "withdraw", row, confirmed="yes")
    assert "may still reach PEMS cannot be withdrawn" in said(response)[0]
    assert state(row) == State.QUEUED


@pytest.mark.parametrize("reason", ["", "   ", "<i></i>", "x" * 501, "bell \x07"])
def test_discard_needs_a_reason_that_can_be_kept(rio, cast, reason):
    row = make_modification(rio, cast.planner, state=State.DEAD)
    asked = act(staff(cast.planner), DEAD, "discard", row, confirmed="yes", reason=reason)
    assert b"errornote" in asked.content
    assert state(row) == State.DEAD


def test_discard_gives_up_with_the_reason_in_the_journal(rio, cast):
    rows = [make_modification(rio, cast.planner, state=State.DEAD) for _ in range(2)]
    response = act(staff(cast.planner), DEAD, "discard", *rows, confirmed="yes", reason="done by phone")
    assert len(said(response)) == 1
    assert all(row.pfa_id in said(response)[0] for row in rows)
    assert {state(row) for row in rows} == {State.WITHDRAWN}
    entries = JournalEntry.objects.filter(kind="modification_withdrawn")
    assert {(entry.actor, entry.reason) for entry in entries} == {("rio-planner", "done by phone")}


def test_dead_letters_lists_only_the_dead(rio, cast):
    dead = make_modification(rio, cast.planner, state=State.DEAD, dead_reason=DeadReason.POISON)
    queued = make_modification(rio, cast.planner)
    client = staff(cast.planner)
    text = client.get(list_of(DEAD, reason="poison")).content.decode()
    assert dead.pfa_id in text
    assert "refused by a rule" in text
    assert queued.pfa_id not in text
    assert dead.pfa_id not in client.get(list_of(DEAD, reason="exhausted")).content.decode()
    assert dead.pfa_id in client.get(list_of(DEAD, fingerprint=dead.fingerprint)).content.decode()
    assert "0 dead letters" in client.get(list_of(DEAD, fingerprint="0" * 16)).content.decode()


def test_who_may_not_sync_is_offered_nothing_and_refused(rio, cast):
    row = make_modification(rio, cast.planner, state=State.DEAD)
    viewer = staff(cast.viewer)
    assert b"retry_now" not in viewer.get(list_of(MODIFICATION)).content
    act(viewer, MODIFICATION, "retry_now", row)
    assert state(row) == State.DEAD


def test_the_permission_is_that_of_each_rows_organization(rio, portarthur, cast):
    """A viewer here who is planner there is offered the action, and it works there only."""
    Membership.objects.create(user=cast.viewer, organization=portarthur, role="planner")
    here = make_modification(rio, cast.planner, state=State.DEAD)
    there = make_modification(portarthur, cast.outsider, state=State.DEAD)
    response = act(staff(cast.viewer), MODIFICATION, "retry_now", here, there)
    assert (state(here), state(there)) == (State.DEAD, State.QUEUED)
    assert any(here.pfa_id in line and f"permission '{Permission.SYNC}'" in line for line in said(response))


def test_a_foreign_id_in_the_selection_is_left_alone_and_not_told_about(rio, portarthur, cast):
    foreign = make_modification(portarthur, cast.outsider, state=State.DEAD)
    for model, action, more in (
        (MODIFICATION, "retry_now", {}),
        (MODIFICATION, "withdraw", {"confirmed": "yes"}),
        (MODIFICATION, "withdraw", {}),
        (DEAD, "discard", {"confirmed": "yes", "reason": "mine now"}),
        (DEAD, "discard", {}),
    ):
        response = act(staff(cast.lead), model, action, foreign, **more)
        assert foreign.pfa_id not in response.content.decode()
        assert state(foreign) == State.DEAD


def test_drafts_of_others_cannot_be_withdrawn(rio, cast):
    draft = make_modification(rio, cast.second, state=State.DRAFT)
    root = superuser()
    Membership.objects.create(user_id=root.session["_auth_user_id"], organization=rio, role="admin")
    for client in (staff(cast.admin), root):
        act(client, MODIFICATION, "withdraw", draft, confirmed="yes")
        assert state(draft) == State.DRAFT


def test_superusers_look_but_only_members_decide(rio, cast):
    row = make_modification(rio, cast.planner, state=State.DEAD)
    client = superuser()
    assert b"retry_now" not in client.get(list_of(MODIFICATION)).content
    client.post(list_of(MODIFICATION), {"action": "retry_now", "_selected_action": [str(row.pk)]})
    assert state(row) == State.DEAD


def test_an_action_needs_post_and_its_token(rio, cast):
    row = make_modification(rio, cast.planner, state=State.DEAD)
    client = staff(cast.planner)
    form = {"action": "retry_now", "_selected_action": [str(row.pk)]}
    assert client.post(list_of(MODIFICATION), form).status_code == 403
    client.get(list_of(MODIFICATION), form)
    assert state(row) == State.DEAD


@pytest.mark.parametrize("selected", ["no-uuid", "a\0b", "1; DROP TABLE", "9" * 400])
def test_a_selection_that_cannot_be_read_does_nothing(rio, cast, selected):
    row = make_modification(rio, cast.planner, state=State.DEAD)
    response = act(staff(cast.planner), MODIFICATION, "retry_now", selected, row)
    assert response.status_code == 200
    assert said(response) == ["The selection could not be read; nothing was done."]
    assert state(row) == State.DEAD


def test_too_many_at_once_are_refused(rio, cast, monkeypatch):
    monkeypatch.setattr("pems_sync.admin.decisions.MOST_AT_ONCE", 2)
    rows = [make_modification(rio, cast.planner, state=State.DEAD) for _ in range(3)]
    for action, more in (("retry_now", {}), ("withdraw", {"confirmed": "yes"}), ("withdraw", {})):
        response = act(staff(cast.planner), MODIFICATION, action, *rows, **more)
        assert said(response) == ["More than 2 are selected, and nothing was done. Narrow the list, or use the API."]
        assert {state(row) for row in rows} == {State.DEAD}


def test_what_people_and_pems_typed_is_escaped(rio, cast):
    evil = "<script>alert(1)</script>"
    row = make_modification(
        rio, cast.planner, state=State.DEAD, reason=evil, error_message=evil, error_code="<b>", changes={"model": evil}
    )
    client = staff(cast.planner)
    for page in (
        list_of(MODIFICATION), list_of(DEAD), f"/admin/pems_sync/deadletter/{row.pk}/change/",
    ):  # fmt: skip
        text = client.get(page).content.decode()
        assert evil not in text
        assert "&lt;script&gt;" in text
    assert evil not in act(client, DEAD, "discard", row).content.decode()


def test_signing_in_here_is_journalled_once(rio, cast):
    staff(cast.planner)  # makes them staff; the forced login of a test is no sign-in
    client = Client(enforce_csrf_checks=True)
    client.get("/admin/login/")
    form = {"username": "rio-planner", "password": "a-password", "next": "/admin/"}
    form["csrfmiddlewaretoken"] = client.cookies["csrftoken"].value
    assert client.post("/admin/login/", form | {"password": "wrong"}).status_code == 200
    assert not JournalEntry.objects.filter(kind="signed_in").exists()
    assert client.post("/admin/login/", form).status_code == 302
    entry = JournalEntry.objects.get(kind="signed_in")
    assert (entry.actor, entry.organization, entry.address) == ("rio-planner", None, "127.0.0.1")
