"""Reading what PEMS says: never guessed, never a crash (PEMS_GATEWAY.md)."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from pems_sync.client.answers import excerpt, outcome_of, page_of, parse_json, record_of, retry_after_seconds
from pems_sync.client.base import (
    Busy,
    Confirmed,
    Drifted,
    Gone,
    PemsRecord,
    ReadFailed,
    Rejected,
    Unknown,
    Write,
    all_pages,
)

NOW = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
WRITE = Write(UUID(int=1), "UPDATE", "PFA-1", "RIO", 4, {"model": "1"}, "rio-planner", "why")
SHOWN = {
    "pfaId": "PFA-1",
    "organizationCode": "RIO",
    "version": 5,
    "updatedAt": "2026-01-31T10:30:00Z",
    "updatedBy": "x",
}


def outcome(status, body=None, wait=None):
    return outcome_of(WRITE, status, body, wait)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0), (7, 7.0), ("0.5", 0.5), ("-3", 0.0), ("99999", 3600.0), ("inf", 3600.0), ("nan", None), ("soon", None),
        (None, None), (True, None), ("", None), ([], None), ("Sat, 31 Jan 2026 10:00:30 GMT", 30.0),
        ("Sat, 31 Jan 2026 09:00:00 GMT", 0.0), ("Sat, 31 Jan 2026 10:00:30 -0000", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert retry_after_seconds(header, now=NOW) == seconds


def test_a_time_that_cannot_be_read_is_unknown():
    answer = outcome(200, {"success": True, "pfaId": "PFA-1", "newVersion": 5, "updatedAt": "yesterday"})
    assert answer == Confirmed(5, None, None)


def test_200_with_a_record_is_confirmed():
    answer = outcome(
        200, {"success": True, "pfaId": "PFA-1", "newVersion": 5, "updatedAt": "2026-01-31T10:30:00", "record": SHOWN}
    )
    assert isinstance(answer, Confirmed)
    assert (answer.new_version, answer.updated_at) == (5, datetime(2026, 1, 31, 10, 30, tzinfo=UTC))
    assert answer.record is not None
    assert answer.record.fields["monthlyRate"] is None


@pytest.mark.parametrize("record", [None, "text", {**SHOWN, "organizationCode": "RIO2"}, {**SHOWN, "version": "5"}])
def test_200_without_a_usable_record_is_confirmed_without_it(record):
    answer = outcome(200, {"success": True, "pfaId": "PFA-1", "newVersion": 5, "record": record})
    assert answer == Confirmed(5, None, None)


@pytest.mark.parametrize(
    "body",
    [None, [], "ok", {}, {"success": True, "pfaId": "PFA-1"}, {"success": False, "pfaId": "PFA-1", "newVersion": 5},
     {"success": True, "pfaId": "PFA-2", "newVersion": 5}, {"success": True, "pfaId": "PFA-1", "newVersion": True},
     {"success": True, "pfaId": "PFA-1", "newVersion": 2**63}],
)  # fmt: skip
def test_a_200_that_does_not_say_what_was_applied_proves_nothing(body):
    assert isinstance(outcome(200, body), Unknown)


def test_the_table_of_answers_for_one_edit():
    assert outcome(409, {"currentVersion": 6}) == Drifted(6)
    assert outcome(409, "?") == Drifted(None)
    assert outcome(404, {"error": "NOT_FOUND"}) == Gone()
    assert isinstance(outcome(404, {}), Unknown)
    assert outcome(422, {"error": "BUSINESS_RULE", "message": "no", "field": "dor"}) == Rejected(
        "BUSINESS_RULE", "no", "dor"
    )
    assert outcome(400, {"error": "INVALID_REQUEST", "fieldErrors": {"dor": "bad"}}) == Rejected(
        "INVALID_REQUEST", "dor: bad", "dor"
    )
    assert outcome(413) == Rejected("HTTP_413", "PEMS answered 413", "")
    assert outcome(423, {"message": "locked"}, "4") == Busy("locked", 4.0)
    assert outcome(503) == Busy("PEMS answered 503", None)
    assert all(isinstance(outcome(status), Unknown) for status in (201, 204, 408, 500, 502, 504, 599))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_what_is_no_json_is_none(content):
    assert parse_json(content) is None


def test_characters_that_no_database_holds_are_left_out():
    said = parse_json(
        b'{"message":"a\\u0000b\\ud800c","list":["\\u0000"],"pair":"\\ud83d\\ude9c","n":1,"\\u0000k":NaN}'
    )
    assert said == {"message": "abc", "list": [""], "pair": "🚜", "n": 1, "k": None}


def test_a_row_of_another_organization_is_refused_also_when_its_code_begins_alike():
    with pytest.raises(ValueError, match="another organization"):
        record_of({**SHOWN, "organizationCode": "RIO2"}, organization_code="RIO")


@pytest.mark.parametrize(
    "shown",
    [None, [], {}, *({**SHOWN, **wrong} for wrong in (
        {"pfaId": ""}, {"pfaId": "x" * 65}, {"pfaId": "PFA-2"}, {"version": 0}, {"monthlyRate": "x"}, {"monthlyRate": 1e40},
        {"forecastEnd": "soon"}, {"hasPlan": "yes"},
    ))],
)  # fmt: skip
def test_a_record_that_cannot_be_read_is_refused(shown):
    with pytest.raises(ValueError, match=r".+"):
        record_of(shown, organization_code="RIO", pfa_id="PFA-1")


def test_a_broken_row_does_not_stop_its_page():
    page = page_of(
        {"items": [SHOWN, {**SHOWN, "pfaId": "PFA-2", "version": None}, 5], "nextCursor": "c", "total": 3},
        organization_code="RIO",
    )
    assert [record.pfa_id for record in page.records] == ["PFA-1"]
    assert [row.pfa_id for row in page.broken] == ["PFA-2", "None"]
    assert (page.next_cursor, page.total) == ("c", 3)
    assert page_of({"items": [], "total": "many"}, organization_code="RIO").total is None


@pytest.mark.parametrize("body", [None, [], {}, {"items": {}}])
def test_what_is_no_page_is_refused(body):
    with pytest.raises(ValueError, match="not a list"):
        page_of(body, organization_code="RIO")


def test_a_list_is_complete_only_when_its_last_page_was_reached():
    page = page_of({"items": [SHOWN]}, organization_code="RIO")
    assert all_pages(iter([page])) == ({"PFA-1": page.records[0]}, True)
    assert all_pages(iter([page, ReadFailed(None, "x")])) == ({"PFA-1": page.records[0]}, False)


def test_an_excerpt_explains_without_showing_the_record():
    assert excerpt({"error": "X", "record": SHOWN, "results": [], "items": []}) == {"error": "X"}
    assert excerpt([1]) is None
    assert len(json.dumps(excerpt({"message": "m" * 5000}))) < 600


def test_an_idempotency_key_is_the_same_only_for_the_same_request():
    others = [
        replace(WRITE, version=5),
        replace(WRITE, changes={"model": "2"}),
        replace(WRITE, operation="DELETE"),
        replace(WRITE, modification_id=UUID(int=2)),
    ]
    keys = {write.idempotency_key for write in (WRITE, *others)}
    assert len(keys) == 5
    assert replace(WRITE, changes=dict(WRITE.changes)).idempotency_key == WRITE.idempotency_key


def test_records_are_equal_in_content_exactly_when_no_value_differs():
    one = record_of(SHOWN, organization_code="RIO")
    same = record_of({**SHOWN, "description": "", "version": 9}, organization_code="RIO")
    assert one.content_hash == same.content_hash
    assert one.content_hash != replace(one, fields={**one.fields, "model": "x"}).content_hash
    assert isinstance(one, PemsRecord)
