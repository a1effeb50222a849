"""Every version seen, newest first: who made it, why, what it changed (C11)."""

from __future__ import annotations

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from pems_sync.models import Membership
from tests.integration import api_acts as acts


def history(client, record, **query):
    answer = client.get(f"/api/pfa/org-rio/records/{record.pfa_id}/history", query)
    assert answer.status_code == 200, answer.json()
    return answer.json()


def test_planners_and_pems_take_turns(engine, cast, api):
    record = engine.records[0]
    was, first = record.fields["model"], record.version
    row = engine.edit(record, model="OURS")
    engine.settle()
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "THEIRS", "monthlyRate": 4321.5})
    engine.pull()
    newest, ours, oldest = history(api(cast.viewer), record)["items"]
    assert (newest["version"], newest["source"], newest["author"], newest["reason"]) == (
        first + 2, "PEMS", "pems.user", None,
    )  # fmt: skip
    assert {each["field"]: each["to"] for each in newest["changedFields"]} == {
        "areaSilo": "THEIRS", "monthlyRate": "4321.50",
    }  # fmt: skip
    assert (ours["source"], ours["author"], ours["reason"]) == ("planner", "rio-planner", "a test")
    assert (ours["modificationId"], ours["jobId"]) == (str(row.pk), str(row.job_id))
    assert ours["changedFields"] == [{"field": "model", "from": was, "to": "OURS"}]
    assert (oldest["version"], oldest["changedFields"], oldest["modificationId"]) == (first, [], None)


def test_our_write_is_ours_also_when_inbound_saw_it_first(engine, cast, api):
    """The webhook of our own write usually arrives before its reply (PROTOCOL.md, Records and inbound)."""
    record = engine.records[0]
    engine.edit(record, model="OURS")
    engine.sandbox.script("lost_reply", pfaId=record.pfa_id)
    engine.send()
    engine.pull()
    engine.settle()
    newest = history(api(cast.viewer), record)["items"][0]
    assert (newest["source"], newest["author"]) == ("planner", "rio-planner")


def test_amounts_are_hidden_from_those_who_may_not_see_them(rio, cast, make_record, api):
    record = make_record(rio)
    acts.moved_in_pems(record, monthlyRate="7777.77")
    Membership.objects.filter(user=cast.viewer).update(permissions=["read"])
    newest = history(api(cast.viewer), record)["items"][0]
    assert newest["changedFields"] == [{"field": "monthlyRate", "from": None, "to": None}]
    assert newest["masked"] is True


def test_pages_are_joined_without_a_gap_in_few_queries(rio, cast, make_record, api):
    record = make_record(rio, model="0")
    for number in range(1, 12):
        acts.moved_in_pems(record, model=str(number))
    client = api(cast.viewer)
    whole = history(client, record)
    paged, cursor, queries = [], None, []
    while True:
        with CaptureQueriesContext(
            database,
        ) as captured:
            page = history(client, record, limit="5", **({"cursor": cursor} if cursor else {}))
        queries.append(len(captured))
        paged += page["items"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert paged == whole["items"]
    assert [each["changedFields"] for each in paged[:2]] == [
        [{"field": "model", "from": "10", "to": "11"}], [{"field": "model", "from": "9", "to": "10"}],
    ]  # fmt: skip
    with CaptureQueriesContext(database) as captured:
        history(client, record)
    assert len(captured) <= max(queries), "as many queries for twelve versions as for five"


@pytest.mark.parametrize("query", [{"limit": "0"}, {"cursor": "x"}, {"from": "1"}])
def test_a_query_that_is_not_as_it_must_be_is_refused(rio, cast, make_record, api, query):
    path = f"/api/pfa/org-rio/records/{make_record(rio).pfa_id}/history"
    assert api(cast.viewer).get(path, query).status_code == 400


def test_strangers_learn_nothing(rio, cast, make_record, api):
    record = make_record(rio)
    paths = [f"/api/pfa/org-rio/records/{record.pfa_id}/history", "/api/pfa/org-rio/records/PFA-0/history"]
    assert [api(cast.outsider).get(path).status_code for path in paths] == [404, 404]
    assert api(cast.viewer).get(paths[1]).status_code == 404
    own = f"/api/pfa/org-portarthur/records/{record.pfa_id}/history"
    assert api(cast.outsider).get(own).status_code == 404, "a record of another organization (S1)"
