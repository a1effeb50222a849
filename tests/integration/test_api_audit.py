"""The journal over the API: for those who manage, newest first, narrowed, as a sheet (C13, S12)."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

from pems_sync.models import JournalEntry, Membership
from tests.integration import api_acts as acts

PATH = "/api/audit?organizationId=org-rio"


@pytest.fixture
def record(rio, make_record):
    return make_record(rio)


@pytest.fixture
def admin(cast, api):
    return api(cast.admin)


def items(client, query: str = "") -> list[dict]:
    answer = client.get(PATH + query)
    assert answer.status_code == 200, answer.json()
    return answer.json()["items"]


def test_every_entry_with_what_was_before_and_after(admin, cast, record):
    row = acts.queued(record, cast.planner, model="NEW")
    shown = items(admin)
    assert [each["position"] for each in shown] == list(range(len(shown), 0, -1))
    queued = next(each for each in shown if each["event"] == "modification_queued")
    assert (queued["actor"], queued["pfaId"], queued["modificationId"]) == (
        "rio-planner", record.pfa_id, str(row.pk),
    )  # fmt: skip
    assert (queued["before"], queued["after"]) == ({"state": "draft"}, {"state": "queued", "changes": {"model": "NEW"}})
    assert queued["hash"] == JournalEntry.objects.get(position=queued["position"]).hash


def test_it_is_narrowed_by_record_person_and_time(admin, rio, cast, record, make_record):
    other = make_record(rio)
    acts.draft(record, cast.planner)
    acts.draft(other, cast.second)
    assert {each["actor"] for each in items(admin, f"&pfaId={record.pfa_id}")} == {"rio-planner"}
    assert {each["pfaId"] for each in items(admin, "&user=rio-second")} == {other.pfa_id}
    now = datetime.now(UTC)
    today, tomorrow = now.date(), now.date() + timedelta(days=1)
    assert len(items(admin, f"&from={today - timedelta(days=1)}&to={tomorrow}")) == 2
    assert len(items(admin, f"&from={today - timedelta(days=1)}&to={today - timedelta(days=1)}")) == 0
    assert len(items(admin, f"&to={(now + timedelta(hours=1)):%Y-%m-%dT%H:%M:%SZ}")) == 2
    assert items(admin, f"&from={tomorrow}") == []


def test_on_whose_behalf_counts_as_well(admin, cast, record):
    row = acts.conflicted(record, cast.planner)
    from pems_sync.services.people import withdraw_modification

    withdraw_modification(membership=acts.member(cast.lead), modification=row)
    newest = next(each for each in items(admin, "&user=rio-planner") if each["event"] == "modification_withdrawn")
    assert (newest["actor"], newest["onBehalfOf"]) == ("rio-lead", "rio-planner")


def test_pages_follow_each_other(admin, cast, record):
    for number in range(5):
        acts.draft(record, cast.planner, model=f"M{number}")
    first = admin.get(f"{PATH}&limit=3").json()
    second = admin.get(f"{PATH}&limit=3&cursor={first['nextCursor']}").json()
    assert [each["position"] for each in first["items"] + second["items"]] == [5, 4, 3, 2, 1]
    assert second["nextCursor"] is None


def test_as_a_sheet_nothing_is_a_formula(admin, cast, record):
    acts.draft(record, cast.planner, model="=1+1")
    answer = admin.get(PATH, HTTP_ACCEPT="text/csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    line = next(csv.DictReader(io.StringIO(answer.content.decode())))
    assert (line["event"], line["after"]) == ("draft_saved", '{"model": "=1+1"}')
    assert all(not cell.startswith(("=", "+", "-", "@")) for cell in line.values())


def test_amounts_are_hidden_from_those_who_may_not_see_them(admin, cast, record):
    acts.draft(record, cast.planner, monthlyRate="7777.77")
    Membership.objects.filter(user=cast.admin).update(permissions=["read", "manage"])
    shown = items(admin)[0]
    assert (shown["after"], shown["masked"]) == ({"monthlyRate": None}, True)
    assert b"7777" not in admin.get(PATH, HTTP_ACCEPT="text/csv").content


def test_who_may_read_it(cast, record, api):
    assert [api(user).get(PATH).status_code for user in (cast.outsider, cast.viewer, cast.lead, cast.admin)] == [
        404,
        403,
        403,
        200,
    ]
    acts.draft(record, cast.planner)
    Membership.objects.filter(user=cast.outsider).update(permissions=["read", "manage"])
    assert api(cast.outsider).get("/api/audit?organizationId=org-portarthur").json()["items"] == []


@pytest.mark.parametrize("query", ["&from=x", "&limit=0", "&cursor=x", "&who=me", "&user=a&user=b", "&to=2026-13-01"])
def test_a_query_that_is_not_as_it_must_be_is_refused(admin, query):
    assert admin.get(PATH + query).status_code == 400
