"""The pages people settle conflicts on: inbox, groups, resolver, bulk. What they decide goes through the services (K5, K8)."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from conflicts.models import Conflict, Resolution
from conflicts.services import resolve
from conflicts.sides import pattern_of, side_by_side
from pems_sync.clock import database_now
from pems_sync.models import Membership, Modification, Organization
from pems_sync.models.organization import Permission
from pems_sync.states import State
from tests.integration.admin_cast import list_of, make_modification, page_of, staff, superuser

MODEL = "conflicts_conflict"
GROUPS, ALIKE = "/admin/conflicts/conflict/groups/", "/admin/conflicts/conflict/alike/"


def make_conflict(organization: Organization, author: Any, *, kind: str = "edit_edit", **sides: Any) -> Conflict:
    """Open, as the engine leaves it. `sides`: field → (base, ours, theirs)."""
    sides = sides or {"model": ("330", "OURS", "THEIRS")}
    base, ours, theirs = ({name: values[place] for name, values in sides.items()} for place in range(3))
    row = make_modification(
        organization, author, state=State.CONFLICTED, is_head=True, changes=ours, base=base | {"isDiscontinued": False}
    )
    fields = [side_by_side(name, base, ours, theirs) for name in sides]
    return Conflict.objects.create(
        organization=organization, modification=row, pfa_id=row.pfa_id, kind=kind, pems_version=row.record.version,
        fields=fields, field_names=list(sides), pattern=pattern_of(kind, fields),
    )  # fmt: skip


def text_of(response: Any) -> str:
    assert response.status_code == 200, response.status_code
    return html.unescape(response.content.decode())


def send(client: Client, address: str, **form: Any) -> Any:
    """As the form on the page does it, token included. Follows to the page that tells the result."""
    client.get(list_of(MODEL))
    return client.post(address, form | {"csrfmiddlewaretoken": client.cookies["csrftoken"].value}, follow=True)


def decide(client: Client, conflict: Conflict, resolution: str, *, act: str = "apply", query: str = "", **more: Any):
    form = {"act": act, "resolution": resolution, "seen_pems_version": conflict.pems_version, "comment": ""}
    return send(
        client,
        page_of(MODEL, conflict) + query,
        **form | {name.replace("__", "-"): each for name, each in more.items()},
    )


def money_taken_from(user: Any) -> None:
    membership = Membership.objects.get(user=user)
    membership.permissions = [each for each in membership.permissions if each != Permission.VIEW_FINANCIALS]
    membership.save()


@pytest.fixture
def record(engine):
    return engine.records[0]


@pytest.fixture
def clash(engine, record):
    """Ours against THEIRS, in one field."""
    return clash_in(engine, record, ours={"model": "OURS"}, theirs={"model": "THEIRS"})


def clash_in(engine, record, *, ours: dict[str, Any], theirs: dict[str, Any], by: Any = None) -> Conflict:
    row = engine.edit(record, by=by, **ours)
    engine.sandbox.edit(record.pfa_id, theirs)
    engine.settle()
    return row.conflicts.get()


# Inbox


def test_the_inbox_shows_what_is_open_unless_asked_otherwise(rio, cast):
    waiting, done = make_conflict(rio, cast.planner), make_conflict(rio, cast.planner)
    Conflict.objects.filter(pk=done.pk).update(
        resolved_at=database_now(), resolved_by=cast.lead, resolution=Resolution.USE_PEMS
    )
    client = staff(cast.planner)
    seen = {
        status: [each.pfa_id in text_of(client.get(list_of(MODEL, **query))) for each in (waiting, done)]
        for status, query in {
            "default": {}, "resolved": {"status": "resolved"}, "all": {"status": "all"}, "odd": {"status": "odd"},
        }.items()
    }  # fmt: skip
    assert seen == {"default": [True, False], "resolved": [False, True], "all": [True, True], "odd": [False, False]}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"kind": "delete_edited"}, "old"), ({"field": "monthlyRate"}, "paid"), ({"author": "rio-second"}, "old"),
        ({"age": "hour"}, "old"), ({"age": "day"}, "old"), ({"age": "week"}, ""), ({"kind": "nonsense"}, ""),
        ({"organization": "org-portarthur"}, ""), ({"field": "monthlyRate", "author": "rio-second"}, ""),
    ],
)  # fmt: skip
def test_the_inbox_is_narrowed_by_each_filter(rio, cast, query, found):
    rows = {
        "paid": make_conflict(rio, cast.planner, monthlyRate=("1.00", "2.00", "3.00")),
        "old": make_conflict(rio, cast.second, kind="delete_edited", isDiscontinued=(False, True, False)),
    }
    Conflict.objects.filter(pk=rows["old"].pk).update(opened_at=database_now() - timedelta(days=2))
    text = text_of(staff(cast.planner).get(list_of(MODEL, **query)))
    assert {name for name, row in rows.items() if page_of(MODEL, row) in text} == ({found} if found else set())


def test_open_conflicts_are_counted_per_organization_and_kind(rio, portarthur, cast):
    for _ in range(2):
        make_conflict(rio, cast.planner)
    make_conflict(rio, cast.planner, kind="overtaken")
    make_conflict(portarthur, cast.outsider)
    text = text_of(staff(cast.planner).get(list_of(MODEL, kind="overtaken")))
    assert '<h2 id="overview-title">3 open</h2>' in text
    assert 'href="?organization=org-rio&kind=edit_edit">2</a>' in text
    assert 'href="?organization=org-rio&kind=overtaken">1</a>' in text
    assert "portarthur" not in text
    assert "4 open" in text_of(superuser().get(list_of(MODEL)))


def test_conflicts_that_are_alike_are_grouped_counted_and_lead_to_the_bulk_page(rio, portarthur, cast):
    for _ in range(3):
        make_conflict(rio, cast.planner, forecastEnd=("2026-06-30", "2026-07-01", "2026-08-31"))
    single, foreign = make_conflict(rio, cast.planner), make_conflict(portarthur, cast.outsider, dor=("BEO", None, "X"))
    client = staff(cast.planner)
    text = text_of(client.get(GROUPS))
    assert text.index("forecastEnd 30 Jun 2026 → 31 Aug 2026") < text.index(single.pattern)
    assert "Settle all 3 alike" in text
    assert foreign.pattern not in text
    links = [html.unescape(link) for link in re.findall(r'href="([^"]*pattern=[^"]*)"', text)]
    assert text_of(client.get(links[0])).count('class="action-select"') == 3
    assert "All open ones in org-rio (3) with PEMS's change forecastEnd 30 Jun 2026" in text_of(client.get(links[1]))
    assert "Settle all 3" not in text_of(client.get(GROUPS, {"field": "model"}))
    assert "Settle" not in text_of(staff(cast.viewer).get(GROUPS))


@pytest.mark.parametrize("address", [reverse("admin:conflicts_conflict_changelist"), GROUPS])
def test_inbox_and_groups_ask_the_same_few_queries_for_3_and_for_30_conflicts(rio, cast, address):
    client, asked = staff(cast.planner), []
    for count in (3, 27):
        for number in range(count):
            make_conflict(rio, (cast.planner, cast.second)[number % 2], model=("330", f"{number}", "THEIRS"))
        with CaptureQueriesContext(database) as captured:
            text_of(client.get(address))
        asked.append(len(captured))
    assert asked[0] == asked[1] <= 10


def test_pages_of_the_inbox_go_on_where_the_last_one_ended(rio, cast):
    rows = [make_conflict(rio, cast.planner) for _ in range(52)]
    client, newest_first = staff(cast.planner), [each.pfa_id for each in reversed(rows)]
    for page, expected in (({}, newest_first[:50]), ({"p": "2"}, newest_first[50:])):
        assert re.findall(r">(PFA-\d+)</a></th>", text_of(client.get(list_of(MODEL, **page)))) == expected


# Looking at one


def test_both_sides_are_shown_as_people_read_them(rio, cast):
    conflict = make_conflict(
        rio, cast.planner, monthlyRate=("5511.22", "1234567.50", "7733.11"), source=("Rental", "Rental", "Rental"),
        forecastEnd=("2026-01-31", "2026-01-31", "2026-02-28"), purchasePrice=(None, None, None),
    )  # fmt: skip
    text = text_of(staff(cast.planner).get(page_of(MODEL, conflict)))
    rows = re.findall(r"<tr(?: class=\"differs\")?>\s*<th scope=\"row\">(\w+)</th>(.*?)</tr>", text, re.DOTALL)
    cells = {
        name: [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        for name, row in rows
    }
    assert cells["monthlyRate"] == ["terms", "5,511.22", "1,234,567.50", "7,733.11", "≠ both changed"]
    assert cells["forecastEnd"] == ["forecast", "31 Jan 2026", "31 Jan 2026", "28 Feb 2026", "≠ only PEMS changed"]
    assert cells["source"][-1] == "= same on both sides"
    assert cells["purchasePrice"][1] == "– (empty)"
    for told in ("rio-planner,", "PEMS, version 4", "j.doe,", "Our reason: later delivery"):
        assert told in text


def test_a_merge_has_a_picker_per_group_with_inputs_by_kind(rio, cast):
    conflict = make_conflict(
        rio, cast.planner, forecastEnd=("2026-01-31", "2026-03-31", "2026-02-28"), model=("330", "OURS", "THEIRS")
    )
    text = text_of(staff(cast.planner).get(page_of(MODEL, conflict)))
    assert "<legend>forecast: forecastEnd</legend>" in text
    assert {"ours", "theirs", "other"} == set(re.findall(r'name="pick-forecast" id="\S+" value="(\w+)"', text))
    assert re.search(r'type="date" name="own-forecastStart" value="2026-01-15"', text), "the partner of the group"
    assert re.search(r'type="date" name="own-forecastEnd" value="2026-02-28"', text)
    assert re.search(
        r'<label for="id_own-model">model</label> <input type="text" name="own-model" value="THEIRS"', text
    )
    inputs = {*re.findall(r'<(?:input|select)(?![^>]*hidden)[^>]*\sid="([^"]+)"', text)}
    assert inputs <= {*re.findall(r'<label for="([^"]+)"', text)}, "every input has a label"


def test_looking_brings_the_conflict_up_to_what_pems_holds(engine, cast, record, clash):
    engine.sandbox.edit(record.pfa_id, {"model": "NEWER"})
    engine.pull()
    text = text_of(staff(cast.planner).get(page_of(MODEL, clash)))
    assert "NEWER" in text
    assert f'name="seen_pems_version" value="{clash.pems_version + 1}"' in text


def test_amounts_are_hidden_and_cannot_be_typed_without_the_right_to_see_them(engine, cast, record):
    conflict = clash_in(engine, record, ours={"monthlyRate": "6123.45"}, theirs={"monthlyRate": 7733.11})
    money_taken_from(cast.planner)
    client = staff(cast.planner)
    shown = [client.get(page_of(MODEL, conflict)), client.get(list_of(MODEL)), client.get(GROUPS)]
    shown += [
        decide(client, conflict, "use_local", act="preview"),
        decide(client, conflict, "merge", act="preview", pick__terms="ours"),
    ]
    for page in map(text_of, shown):
        assert not {amount for amount in ("6123.45", "7733.11") if amount in page.replace(",", "")}
        assert "own-monthlyRate" not in page
    assert "own-source" in text_of(shown[0])
    decide(
        client, conflict, "merge", pick__terms="other", own__source="Rental", own__monthlyRate="1.00", own__dor="BEO"
    )
    conflict.refresh_from_db()
    assert conflict.decided == {"monthlyRate": "7733.11"}, "what was slipped in counts for nothing"


def test_strangers_see_no_conflict_and_reach_no_page_of_it(rio, cast):
    conflict, client = make_conflict(rio, cast.planner), staff(cast.outsider)
    assert client.get(page_of(MODEL, conflict)).headers["Location"] == "/admin/"
    own = f"/admin/conflicts/conflict/{conflict.pk}"
    assert send(client, f"{own}/preview/", resolution="use_pems").status_code == 404
    assert send(client, f"{own}/undo/").status_code == 404
    assert client.get(ALIKE, {"organization": "org-rio"}).status_code == 404
    assert conflict.pfa_id not in text_of(
        send(client, ALIKE, organization="org-portarthur", id=str(conflict.pk), act="preview", resolution="use_pems")
    )
    decide(client, conflict, "use_pems")
    conflict.refresh_from_db()
    assert conflict.resolved_at is None


def test_who_may_not_resolve_only_looks(rio, cast):
    conflict, root = make_conflict(rio, cast.planner), superuser()
    for client in (staff(cast.viewer), root):
        text = text_of(client.get(page_of(MODEL, conflict)))
        assert "not resolve it" in text
        assert 'name="resolution"' not in text
        assert "settle_alike" not in text_of(client.get(list_of(MODEL)))
        assert decide(client, conflict, "use_pems").status_code == 403
        assert client.get(ALIKE, {"organization": "org-rio"}).status_code in (403, 404)
    conflict.refresh_from_db()
    assert conflict.resolved_at is None


def test_no_form_is_taken_without_its_token(rio, cast):
    conflict, client = make_conflict(rio, cast.planner), staff(cast.planner)
    own = f"/admin/conflicts/conflict/{conflict.pk}"
    form = {"act": "apply", "resolution": "use_pems", "seen_pems_version": 4}
    for address in (f"{own}/change/", f"{own}/preview/", f"{own}/undo/", ALIKE):
        assert client.post(address, form).status_code == 403


def test_nothing_is_decided_by_a_form_that_says_too_little(rio, cast):
    conflict, client = make_conflict(rio, cast.planner), staff(cast.planner)
    for form, told in (
        ({}, "Choose how to settle it."), ({"resolution": "withdrawn"}, "Choose how to settle it."),
        ({"resolution": "merge"}, "Choose whose value of model stands."),
        ({"resolution": "merge", "pick-model": "other", "own-model": "x" * 501}, "longer than 500"),
        ({"resolution": "use_pems", "comment": "bell \x07"}, "plain text"),
    ):  # fmt: skip
        text = text_of(send(client, page_of(MODEL, conflict), act="apply", seen_pems_version=4, **form))
        assert told in text, form
    assert Conflict.objects.unresolved().count() == 1
    assert client.get(page_of(MODEL, conflict).replace("/change/", "/delete/")).status_code == 403
    assert client.get("/admin/conflicts/conflict/add/").status_code == 403


def test_what_people_and_pems_typed_is_escaped(rio, cast):
    evil = "<script>alert(1)</script>"
    conflict = make_conflict(rio, cast.planner, model=(evil, evil + "2", evil + "3"))
    Modification.objects.update(reason=evil)
    client = staff(cast.planner)
    form = {"organization": "org-rio", "pattern": conflict.pattern, "act": "preview", "resolution": "use_local"}
    pages = [client.get(address) for address in (list_of(MODEL), GROUPS, page_of(MODEL, conflict))]
    pages += [
        send(client, ALIKE, **form),
        decide(client, conflict, "merge", act="preview", pick__model="ours", comment=evil),
    ]
    for page in pages:
        assert evil not in page.content.decode()
        assert "&lt;script&gt;" in page.content.decode()


def test_the_page_of_a_conflict_asks_few_queries(rio, cast):
    conflict, client = make_conflict(rio, cast.planner), staff(cast.planner)
    with CaptureQueriesContext(database) as captured:
        text_of(client.get(page_of(MODEL, conflict)))
    assert len(captured) <= 8


# Deciding


@pytest.mark.parametrize(
    ("resolution", "more", "stands"),
    [
        ("use_local", {}, "OURS"), ("use_pems", {}, "THEIRS"), ("merge", {"pick__model": "ours"}, "OURS"),
        ("merge", {"pick__model": "theirs"}, "THEIRS"), ("merge", {"pick__model": "other", "own__model": " M-3 "}, "M-3"),
    ],
)  # fmt: skip
def test_each_strategy_is_applied(engine, cast, record, clash, resolution, more, stands):
    response = decide(staff(cast.lead), clash, resolution, comment="as agreed", **more)
    assert f"{record.pfa_id}: resolved with" in text_of(response)
    clash.refresh_from_db()
    assert (clash.resolution, clash.resolved_by, clash.comment) == (resolution, cast.lead, "as agreed")
    assert clash.decided == {"model": stands}
    engine.settle()
    assert engine.in_pems(record)["model"] == stands


@pytest.mark.parametrize(("typed", "kept"), [("6,100.5", "6100.50"), ("6100,50", None), ("", None)])
def test_an_amount_of_ones_own_is_read_or_refused_but_never_guessed_at(engine, cast, record, typed, kept):
    conflict = clash_in(engine, record, ours={"monthlyRate": "6123.45"}, theirs={"monthlyRate": 7733.11})
    decide(
        staff(cast.planner),
        conflict,
        "merge",
        pick__terms="other",
        own__source="Rental",
        own__monthlyRate=typed,
        own__purchasePrice="",
    )
    conflict.refresh_from_db()
    assert (conflict.decided or {}).get("monthlyRate") == kept


def test_a_preview_shows_the_merged_record_and_broken_rules_and_changes_nothing(engine, cast, record):
    conflict = clash_in(
        engine, record, ours={"forecastEnd": "2031-06-30", "model": "OURS"},
        theirs={"forecastStart": "2032-01-01", "forecastEnd": "2032-06-30"},
    )  # fmt: skip
    client, before = staff(cast.planner), Modification.objects.values().get(pk=conflict.modification_id)
    form = {"pick__forecast": "other", "own__forecastStart": "2033-01-01", "own__forecastEnd": "2032-12-31"}
    for address in (page_of(MODEL, conflict), f"/admin/conflicts/conflict/{conflict.pk}/preview/"):
        sent = {name.replace("__", "-"): value for name, value in form.items()}
        response = send(
            client, address, act="preview", resolution="merge", seen_pems_version=conflict.pems_version, **sent
        )
        text = text_of(response)
        assert "forecastEnd (2032-12-31) is before forecastStart (2033-01-01)." in text
        assert "31 Dec 2032" in text
        assert re.search(r"model</th><td>[^<]*</td><td class=\"side\"><span aria-hidden=\"true\">→</span> OURS", text)
    assert "(2031-06-30) is before" in text_of(decide(client, conflict, "use_local", act="preview"))
    sound = text_of(decide(client, conflict, "merge", act="preview", pick__forecast="theirs"))
    assert "No rule is broken" in sound
    assert "may not be edited" not in sound
    assert Conflict.objects.unresolved().get() == conflict
    assert Modification.objects.values().get(pk=conflict.modification_id) == before
    refused = text_of(decide(client, conflict, "merge", **form))
    assert "This merge cannot be sent" in refused
    assert 'value="2033-01-01"' in refused, "what was typed is still there"


def test_a_conflict_that_moved_is_shown_again_with_its_new_values(engine, cast, record, clash):
    client = staff(cast.planner)
    engine.sandbox.edit(record.pfa_id, {"model": "NEWER"})
    engine.pull()
    text = text_of(decide(client, clash, "merge", pick__model="other", own__model="TYPED", comment="my reason"))
    assert "PEMS has changed this record since you looked" in text
    assert "NEWER" in text
    assert f'name="seen_pems_version" value="{clash.pems_version + 1}"' in text
    assert 'value="TYPED"' in text
    assert 'value="my reason"' in text
    assert engine.state(clash.modification) is State.CONFLICTED
    clash.refresh_from_db()
    decide(client, clash, "merge", pick__model="other", own__model="TYPED")
    clash.refresh_from_db()
    assert clash.decided == {"model": "TYPED"}


def test_looking_again_keeps_what_was_typed(engine, cast, record, clash):
    engine.sandbox.edit(record.pfa_id, {"model": "NEWER"})
    engine.pull()
    form = {"act": "look", "seen_pems_version": clash.pems_version, "pick-model": "other", "own-model": "TYPED"}
    text = text_of(send(staff(cast.planner), page_of(MODEL, clash), **form))
    assert "NEWER" in text
    assert 'value="TYPED"' in text
    assert "Nothing was done yet" not in text


def test_the_second_person_is_told_who_decided_and_how(engine, cast, clash):
    resolve(membership=engine.member(cast.lead), conflict=clash, resolution=Resolution.USE_PEMS, comment="by phone")
    text = text_of(decide(staff(cast.planner), clash, "use_local"))
    assert "This conflict was resolved by rio-lead with “use PEMS's”" in text
    assert "Comment: by phone" in text
    clash.refresh_from_db()
    assert clash.resolution == Resolution.USE_PEMS


def test_a_record_that_is_gone_leaves_one_way_and_a_soft_delete_cannot_be_merged(rio, cast):
    client = staff(cast.planner)
    deleted = make_conflict(rio, cast.planner, kind="delete_edited", isDiscontinued=(False, True, False))
    Modification.objects.filter(pk=deleted.modification_id).update(operation="DELETE")
    gone = make_conflict(rio, cast.planner, kind="edit_deleted", model=("330", "OURS", None))
    type(gone.modification.record).objects.filter(pk=gone.modification.record_id).update(deleted_at=database_now())
    for conflict, ways in ((gone, {"use_pems"}), (deleted, {"use_pems", "use_local"})):
        text = text_of(client.get(page_of(MODEL, conflict)))
        assert set(re.findall(r'name="resolution" id="\w+" value="(\w+)"', text)) == ways


def test_after_a_decision_comes_the_next_conflict_of_the_same_list(engine, cast):
    rows = [
        clash_in(engine, record, ours={name: "OURS"}, theirs={name: "THEIRS"})
        for record, name in zip(engine.records, ("model", "areaSilo", "model"), strict=False)
    ]
    client = staff(cast.planner)
    query = "?_changelist_filters=field%3Dmodel"
    response = decide(client, rows[2], "use_pems", query=query)
    assert response.redirect_chain == [(page_of(MODEL, rows[0]) + query, 302)], "the other field is passed over"
    response = decide(client, rows[0], "use_pems", query=query)
    assert response.redirect_chain == [(list_of(MODEL, field="model"), 302)]
    assert "0 conflicts" in text_of(response)
    assert decide(client, rows[1], "use_pems", query="?_changelist_filters=x%3Dy").status_code == 200


def test_a_decision_can_be_taken_back_from_the_next_page(engine, cast, record, clash):
    client = staff(cast.planner)
    text = text_of(decide(client, clash, "use_local"))
    address = f"/admin/conflicts/conflict/{clash.pk}/undo/"
    assert f'action="{address}"' in text
    assert f'action="{address}"' in text_of(client.get(page_of(MODEL, clash)))
    assert "the conflict is open again" in text_of(send(client, address))
    assert engine.state(clash.modification) is State.CONFLICTED
    decide(client, clash, "use_local")
    engine.settle()
    assert f'action="{address}"' not in text_of(client.get(page_of(MODEL, clash)))
    assert "Edit the record anew." in text_of(send(client, address))
    assert Conflict.objects.resolved().count() == 1


def test_a_large_amount_waits_for_another_person(engine, cast, record):
    conflict = clash_in(engine, record, ours={"monthlyRate": "6123.45"}, theirs={"monthlyRate": 7733.11})
    Organization.objects.update(second_approval=True, money_threshold=100)
    client = staff(cast.planner)
    assert "another person will be asked" in text_of(decide(client, conflict, "use_local", act="preview"))
    assert "Another person must agree first" in text_of(decide(client, conflict, "use_local"))
    conflict.refresh_from_db()
    assert conflict.resolved_at is None
    assert "rio-planner has decided this" in text_of(client.get(page_of(MODEL, conflict)))


# Settling alike


def test_many_are_settled_alike_after_a_preview(engine, cast):
    records = engine.records[:3]
    for record in records:
        engine.sandbox.edit(record.pfa_id, {"areaSilo": "North"})
    engine.pull()
    rows = [clash_in(engine, record, ours={"areaSilo": "OURS"}, theirs={"areaSilo": "South"}) for record in records]
    client, pattern = staff(cast.planner), rows[0].pattern
    form = {"organization": "org-rio", "pattern": pattern, "resolution": "use_local"}
    preview = text_of(send(client, ALIKE, act="preview", **form))
    assert "3 conflicts, 3 of them can be settled like this" in preview
    assert Conflict.objects.unresolved().count() == 3
    engine.sandbox.edit(rows[1].pfa_id, {"areaSilo": "East"})
    engine.pull()
    token = re.search(r'name="token" value="([^"]+)"', preview)[1]
    assert "plain text" in text_of(send(client, ALIKE, act="apply", token=token, comment="bell \x07", **form))
    result = text_of(send(client, ALIKE, act="apply", token=token, comment="agreed", **form))
    assert "Settled: 2" in result.replace("</span> ", "")
    assert f"{rows[1].pfa_id}</a>: changed since the preview" in result
    told = {(each.pk, each.comment) for each in Conflict.objects.resolved()}
    assert told == {(rows[0].pk, "agreed"), (rows[2].pk, "agreed")}
    assert "token" in text_of(send(client, ALIKE, act="apply", **form | {"token": "forged"})).lower()


def test_selected_conflicts_of_one_organization_are_settled_alike(rio, portarthur, cast):
    Membership.objects.create(user=cast.planner, organization=portarthur, role="planner")
    rows, foreign = [make_conflict(rio, cast.planner) for _ in range(2)], make_conflict(portarthur, cast.outsider)
    client = staff(cast.planner)

    def chosen(*selected: Conflict) -> str:
        keys = [str(each.pk) for each in selected]
        return text_of(send(client, list_of(MODEL), action="settle_alike", _selected_action=keys))

    assert "Select open conflicts of one organization" in chosen(*rows, foreign)
    text = chosen(*rows)
    assert "2 selected in org-rio" in text
    ids = re.findall(r'name="id" value="([^"]+)"', text)
    form = {"organization": "org-rio", "id": ids, "act": "preview"}
    assert "Choose one of the two ways." in text_of(send(client, ALIKE, **form))
    preview = text_of(send(client, ALIKE, resolution="use_pems", **form))
    token = re.search(r'name="token" value="([^"]+)"', preview)[1]
    send(client, ALIKE, act="apply", token=token, organization="org-rio")
    assert set(Conflict.objects.resolved()) == set(rows)
