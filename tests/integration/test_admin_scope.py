"""Nothing of another organization is listed, opened, filtered for, counted or guessed in the admin (I12, S1)."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from pems_sync.models import Membership, Modification
from pems_sync.models.organization import Permission
from pems_sync.states import State
from tests.integration.admin_cast import (
    list_of,
    make_attempt,
    make_everything,
    make_modification,
    page_of,
    staff,
    superuser,
)

MODELS = (
    "pems_sync_modification", "pems_sync_deadletter", "pems_sync_attempt", "pems_sync_job", "pems_sync_record",
    "pems_sync_approval", "pems_sync_journalentry", "pems_sync_organization", "conflicts_conflict",
)  # fmt: skip
AMOUNTS = ("6123.45", "5511.22", "7733.11", "5500.00")


def text_of(response):
    assert response.status_code == 200, response.status_code
    return response.content.decode()


@pytest.fixture
def ours(rio, cast):
    return make_everything(rio, cast.planner)


@pytest.fixture
def theirs(portarthur, cast):
    return make_everything(portarthur, cast.outsider)


@pytest.mark.parametrize("model", MODELS)
def test_a_list_shows_own_rows_and_no_foreign_ones(cast, ours, theirs, model):
    text = text_of(staff(cast.admin).get(list_of(model)))
    assert page_of(model, ours[model]) in text
    assert page_of(model, theirs[model]) not in text
    for foreign in ("portarthur", "PORTARTHUR"):
        assert foreign not in text


@pytest.mark.parametrize("model", MODELS)
def test_a_foreign_row_answers_as_a_missing_one(cast, ours, theirs, model):
    client = staff(cast.admin)
    foreign = client.get(page_of(model, theirs[model]))
    missing_key = uuid4() if isinstance(theirs[model].pk, type(uuid4())) else 987_654_321
    missing = client.get(page_of(model, theirs[model]).replace(str(theirs[model].pk), str(missing_key)))
    assert (foreign.status_code, missing.status_code) == (302, 302)
    assert foreign.headers["Location"] == missing.headers["Location"] == "/admin/"
    assert text_of(client.get(page_of(model, ours[model])))


@pytest.mark.parametrize("model", MODELS)
def test_history_and_delete_of_a_foreign_row_show_nothing(cast, theirs, model):
    client = staff(cast.admin)
    for place in ("history", "delete"):
        response = client.get(page_of(model, theirs[model]).replace("/change/", f"/{place}/"))
        assert response.status_code in (302, 403, 404)


@pytest.mark.parametrize("model", MODELS)
def test_a_superuser_sees_all_organizations(ours, theirs, model):
    text = text_of(superuser().get(list_of(model)))
    assert page_of(model, ours[model]) in text
    assert page_of(model, theirs[model]) in text


@pytest.mark.parametrize(
    "lookup",
    [
        "organization__slug", "organization__id__exact", "organization__connection__secret_name__startswith",
        "author__password__startswith", "changes__monthlyRate", "record__fields__monthlyRate__gt",
        "pfa_id__startswith", "state__exact", "job__reason__contains",
    ],
)  # fmt: skip
def test_lookups_of_ones_own_are_refused(cast, ours, theirs, lookup):
    assert staff(cast.planner).get(list_of("pems_sync_modification") + f"?{lookup}=x").status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        {"organization": "org-portarthur"}, {"organization": "org-of-nobody"}, {"author": "portarthur-planner"},
        {"author": "nobody"}, {"organization": "a\0b"}, {"status": "nonsense"}, {"within": "'"}, {"job": "no-uuid"},
        {"job": str(uuid4())},
    ],
)  # fmt: skip
def test_a_foreign_or_nonsensical_filter_value_finds_nothing(cast, ours, theirs, query):
    text = text_of(staff(cast.planner).get(list_of("pems_sync_modification", **query)))
    assert "0 modifications" in text
    assert theirs["pems_sync_modification"].pfa_id not in text


def test_filters_offer_only_own_organizations_and_their_people(cast, ours, theirs):
    text = text_of(staff(cast.planner).get(list_of("pems_sync_modification")))
    assert "?organization=org-rio" in text
    assert "author=rio-lead" in text
    assert "portarthur" not in text


@pytest.mark.parametrize(
    "model", ["pems_sync_modification", "pems_sync_record", "pems_sync_attempt", "conflicts_conflict"]
)
def test_search_finds_by_pfa_id_and_by_modification_id_within_the_scope(cast, ours, theirs, model):
    client = staff(cast.planner)
    mine, foreign = ours[model], theirs[model]
    for row, found in ((mine, True), (foreign, False)):
        subject = row if hasattr(row, "pfa_id") else row.modification
        owner = row if model == "pems_sync_modification" else getattr(row, "modification", None)
        terms = [subject.pfa_id, *([str(owner.pk)] if owner else [])]
        for term in terms:
            assert (page_of(model, row) in text_of(client.get(list_of(model, q=term)))) is found, term
    for odd in ("a\0b", "%", "'; --", "x" * 5000):
        assert client.get(list_of(model, q=odd)).status_code == 200


def test_drafts_of_others_are_not_listed_nor_opened(rio, cast):
    draft = make_modification(rio, cast.planner, state=State.DRAFT)
    for client, seen in ((staff(cast.second), False), (staff(cast.lead), False), (staff(cast.planner), True)):
        assert (draft.pfa_id in text_of(client.get(list_of("pems_sync_modification")))) is seen
        assert client.get(page_of("pems_sync_modification", draft)).status_code == (200 if seen else 302)


def test_the_journal_is_for_those_who_may_read_the_audit(cast, ours):
    planner = staff(cast.planner)
    assert planner.get(list_of("pems_sync_journalentry")).status_code == 403
    assert "Journal" not in text_of(planner.get("/admin/"))
    assert "Journal" in text_of(staff(cast.admin).get("/admin/"))


def test_connections_are_for_superusers(cast, connection):
    assert staff(cast.admin).get(list_of("pems_sync_connection")).status_code == 403
    text = text_of(superuser().get(page_of("pems_sync_connection", connection)))
    assert "pems-sync/demo" in text


def test_staff_without_a_membership_finds_an_empty_desk(cast, ours):
    stranger = User.objects.create_user("stranger")
    client = staff(stranger)
    assert client.get(list_of("pems_sync_modification")).status_code == 403
    assert "don’t have permission" in text_of(client.get("/admin/"))


def test_a_membership_that_ends_closes_the_desk_at_once(cast, ours):
    client = staff(cast.planner)
    assert client.get(list_of("pems_sync_modification")).status_code == 200
    Membership.objects.filter(user=cast.planner).delete()
    assert client.get(list_of("pems_sync_modification")).status_code == 403
    assert client.get(page_of("pems_sync_modification", ours["pems_sync_modification"])).status_code in (302, 403)


def test_members_who_are_no_staff_are_sent_to_the_sign_in(cast, ours):
    client = Client()
    client.force_login(cast.planner)
    assert client.get(list_of("pems_sync_modification")).status_code == 302


@pytest.mark.parametrize("model", MODELS[:-1])  # conflicts are decided on their page: test_conflict_pages.py
def test_nothing_can_be_added_changed_or_deleted(cast, ours, model):
    for client in (staff(cast.admin), superuser()):
        client.handler.enforce_csrf_checks = False
        row = ours[model]
        assert client.get(page_of(model, row).replace(f"{row.pk}/change", "add")).status_code == 403
        assert client.post(page_of(model, row), {"state": "confirmed", "name": "x"}).status_code == 403
        assert client.post(page_of(model, row).replace("/change/", "/delete/"), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_money_is_hidden_without_view_financials(cast, ours, model):
    client = staff(cast.admin)
    page = page_of(model, ours[model])
    for amounts_seen in (True, False):
        if not amounts_seen:
            membership = Membership.objects.get(user=cast.admin)
            membership.permissions = [each for each in membership.permissions if each != Permission.VIEW_FINANCIALS]
            membership.save()
        text = (text_of(client.get(page)) + text_of(client.get(list_of(model)))).replace(",", "")
        seen = {amount for amount in AMOUNTS if amount in text}
        if not amounts_seen:
            assert not seen
        elif model not in ("pems_sync_job", "pems_sync_organization"):
            assert seen


def test_what_pems_said_about_an_amount_is_hidden_too(rio, cast):
    said = "monthlyRate 6123.45 is above the limit of 6000"
    row = make_modification(rio, cast.planner, state=State.DEAD, error_message=said, error_field="monthlyRate")
    blunt = make_modification(rio, cast.planner, state=State.DEAD, error_message="6123.45!", error_field="monthlyRate")
    make_attempt(row, detail=said)
    Membership.objects.filter(user=cast.viewer).update(permissions=["read"])
    client = staff(cast.viewer)
    pages = [
        page_of("pems_sync_deadletter", row),
        page_of("pems_sync_modification", blunt),
        list_of("pems_sync_deadletter"),
    ]
    for page in pages:
        assert "6123.45" not in text_of(client.get(page))


def test_money_is_judged_by_the_organization_of_each_row(rio, portarthur, cast):
    Membership.objects.create(user=cast.viewer, organization=portarthur, role="viewer", permissions=["read"])
    client = staff(cast.viewer)
    for organization, author, seen in ((rio, cast.planner, True), (portarthur, cast.outsider, False)):
        row = make_modification(organization, author)
        assert ("6123.45" in text_of(client.get(page_of("pems_sync_modification", row)))) is seen


def test_the_shortcuts_of_django_tell_nothing(cast, ours, theirs):
    client, foreign = staff(cast.planner), theirs["pems_sync_modification"]
    kind = ContentType.objects.get_for_model(Modification)
    answers = [client.get(f"/admin/r/{kind.pk}/{key}/") for key in (foreign.pk, uuid4())]
    assert answers[0].status_code == answers[1].status_code == 404
    assert answers[0].content == answers[1].content
    asked = {"app_label": "pems_sync", "model_name": "attempt", "field_name": "modification", "term": foreign.pfa_id}
    assert str(foreign.pk) not in client.get("/admin/autocomplete/", asked).content.decode()
