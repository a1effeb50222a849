"""Lists stay cheap, pages obey the content security policy, and a row's page tells its whole story."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from pems_sync.admin.desk import CappedPaginator
from pems_sync.models import Modification
from pems_sync.states import State
from tests.integration.admin_cast import (
    list_of,
    make_everything,
    make_modification,
    page_of,
    staff,
    superuser,
)

INLINE = re.compile(r"<style|\sstyle=|\son[a-z]+=\"|<script(?![^>]*(src=|type=\"application/json\"))")
LISTS = {
    "pems_sync_modification": 9,
    "pems_sync_deadletter": 9,
    "pems_sync_attempt": 9,
    "pems_sync_job": 9,
    "pems_sync_record": 8,
    "pems_sync_journalentry": 8,
    "pems_sync_approval": 8,
    "pems_sync_organization": 7,
    "conflicts_conflict": 10,
}
"""Queries: session, user, two for Django's model permissions, memberships, count, rows; for filters organizations and
authors; for attempts their outcomes; for conflicts authors and the counts above the list."""


def queries_of(client, address: str) -> int:
    with CaptureQueriesContext(
        database,
    ) as captured:
        assert client.get(address).status_code == 200
    return len(captured)


@pytest.mark.parametrize("model", LISTS)
def test_a_list_asks_the_same_few_queries_for_one_row_and_for_many(rio, cast, model):
    client = staff(cast.admin)
    make_everything(rio, cast.planner)
    one = queries_of(client, list_of(model))
    for author in (cast.planner, cast.second, cast.lead):
        make_everything(rio, author)
    assert queries_of(client, list_of(model)) == one
    assert one == LISTS[model]


def test_pages_of_a_modification_ask_few_queries(rio, cast):
    rows = make_everything(rio, cast.planner)
    assert queries_of(staff(cast.planner), page_of("pems_sync_modification", rows["pems_sync_modification"])) <= 14


def test_a_long_list_is_counted_only_as_far_as_it_is_paged(rio, cast, monkeypatch):
    monkeypatch.setattr("pems_sync.admin.desk.MOST_COUNTED", 3)
    monkeypatch.setattr(CappedPaginator, "most_counted", 3)
    for _ in range(5):
        make_modification(rio, cast.planner)
    with CaptureQueriesContext(database) as captured:
        text = staff(cast.planner).get(list_of("pems_sync_modification")).content.decode()
    counts = [query["sql"] for query in captured if "COUNT(*)" in query["sql"]]
    assert len(counts) == 1
    assert "LIMIT 3" in counts[0]
    assert "More than 3 modifications" in text


def test_status_words_are_those_of_the_wire(rio, cast):
    now = make_modification(rio, cast.planner).saved_at
    waiting = make_modification(rio, cast.planner, attempts=1, not_before=now)
    client = staff(cast.planner)
    text = client.get(list_of("pems_sync_modification", status="retrying")).content.decode()
    assert '<span class="status status-retrying">retrying</span>' in text
    assert waiting.pfa_id in text
    assert "1 modification" in text
    assert "status-queued" in client.get(list_of("pems_sync_modification", status="queued")).content.decode()


def test_a_modification_tells_its_story(rio, cast):
    rows = make_everything(rio, cast.planner)
    text = staff(cast.planner).get(page_of("pems_sync_modification", rows["pems_sync_modification"])).content.decode()
    for told in ("Attempt 1", "HTTP 422", "worker-1", "saved the draft", "It was refused", "6123.45", "who must act"):
        assert told in text, told


def test_every_page_obeys_the_content_security_policy(rio, cast):
    rows = make_everything(rio, cast.planner)
    client = staff(cast.admin)
    for model, row in rows.items():
        for address in (list_of(model), page_of(model, row)):
            response = client.get(address)
            assert "script-src 'self'" in response.headers["Content-Security-Policy"]
            assert "unsafe" not in response.headers["Content-Security-Policy"]
            text = response.content.decode()
            assert not re.search(
                r"<style|\sstyle=|\son[a-z]+=\"|<script(?![^>]*(src=|type=\"application/json\"))", text
            ), address


def test_the_index_lists_the_desk_in_the_order_of_use(rio, cast):
    text = staff(cast.admin).get("/admin/").content.decode()
    main = text[text.index('id="content-main"') :]
    names = re.findall(r'<tr class="model-(\w+)', main)
    assert names == [
        "modification",
        "deadletter",
        "attempt",
        "job",
        "record",
        "approval",
        "journalentry",
        "inboundstate",
        "fieldpolicy",
        "organization",
        "conflict",
    ]
    assert "pems-sync" in text


def test_a_job_leads_to_its_modifications(rio, cast):
    rows = make_everything(rio, cast.planner)
    other = make_modification(rio, cast.second)
    client = staff(cast.planner)
    page = client.get(page_of("pems_sync_job", rows["pems_sync_job"])).content.decode()
    assert "1 dead" in page
    text = client.get(list_of("pems_sync_modification", job=str(rows["pems_sync_job"].pk))).content.decode()
    assert rows["pems_sync_modification"].pfa_id in text
    assert other.pfa_id not in text


def test_lists_come_newest_first_and_page(rio, cast):
    for _ in range(52):
        make_modification(rio, cast.planner)
    newest = Modification.objects.latest("saved_at")
    client = superuser()
    first = client.get(list_of("pems_sync_modification")).content.decode()
    assert first.index(newest.pfa_id) > 0
    assert newest.pfa_id not in client.get(list_of("pems_sync_modification", p="2")).content.decode()
    assert client.get(list_of("pems_sync_modification", p="x")).status_code in (200, 302)
    assert client.get(list_of("pems_sync_modification", o="1.2.-9")).status_code == 200


@pytest.mark.parametrize("key", ["%00", "no-uuid", "..", "1" * 400, "_5F_"])
def test_an_address_that_names_nothing_is_no_failure(rio, cast, key):
    client = staff(cast.admin)
    for model in ("modification", "deadletter", "attempt", "job", "record", "journalentry", "organization"):
        assert client.get(f"/admin/pems_sync/{model}/{key}/change/").status_code in (302, 404)


def test_every_state_can_be_shown(rio, cast):
    now = make_modification(rio, cast.planner).saved_at
    needs: dict[State, dict[str, Any]] = {
        State.SENDING: {"is_head": True, "lease_until": now, "delivery_id": uuid4()},
        State.UNKNOWN: {"is_head": True, "exposed": True, "not_before": now},
        State.CONFIRMED: {"finished_at": now, "confirmed_version": 5, "adjusted": {"model": "X"}},
        State.SUPERSEDED: {"finished_at": now},
        State.WITHDRAWN: {"finished_at": now},
    }
    client = staff(cast.planner)
    for state in State:
        row = make_modification(rio, cast.planner, state=state, **needs.get(state, {}))
        assert client.get(page_of("pems_sync_modification", row)).status_code == 200, state
