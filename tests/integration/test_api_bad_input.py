"""Whatever is sent: a 4xx with the envelope, never a 500, and nothing stored."""

from __future__ import annotations

import pytest
from django.test import Client

from pems_sync.models import Modification
from tests.cast import Cast
from tests.integration import api_acts as acts
from tests.integration.bad_bodies import BODIES

DRAFT = "/api/pfa/org-rio/drafts/PFA-1"
JSON = "application/json"


@pytest.fixture(autouse=True)
def _unhurried(settings):
    settings.API_USER_RATE_LIMIT = 1000


@pytest.fixture
def planner(api, cast: Cast, rio, make_record):
    make_record(rio, pfa_id="PFA-1", version=4)
    return api(cast.planner)


def refused(answer, status: int = 400) -> dict:
    assert answer.status_code == status, answer.content
    body: dict = answer.json()
    assert set(body) == {"error", "message", "requestId", "details"}
    assert body["message"].endswith((".", ")")) or body["details"]
    assert body["requestId"] == answer.headers["X-Request-Id"]
    assert not Modification.objects.exists()
    return body


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_400(planner, name: str) -> None:
    refused(planner.generic("PUT", DRAFT, BODIES[name], content_type=JSON))


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "multipart/form-data; boundary=x", "application/xml", "", "application/json; charset=latin-1"],
)
def test_another_content_type_is_415(planner, kind: str) -> None:
    refused(planner.generic("PUT", DRAFT, b'{"changes": {"model": "X"}, "baseVersion": 4}', content_type=kind), 415)


def test_a_compressed_body_is_415(planner) -> None:
    answer = planner.generic("PUT", DRAFT, b"\x1f\x8b", content_type=JSON, HTTP_CONTENT_ENCODING="gzip")
    refused(answer, 415)


@pytest.mark.parametrize("kind", [JSON, "application/json; charset=utf-8", "APPLICATION/JSON"])
def test_json_may_say_its_charset(planner, kind: str) -> None:
    body = b'{"changes": {"model": "X"}, "baseVersion": 4}'
    assert planner.generic("PUT", DRAFT, body, content_type=kind).status_code == 200


def test_more_than_a_megabyte_is_413(planner) -> None:
    body = b'{"changes": {"model": "' + b"x" * 1_000_000 + b'"}, "baseVersion": 4}'
    assert refused(planner.generic("PUT", DRAFT, body, content_type=JSON), 413)["error"] == "BODY_TOO_LARGE"


def test_a_content_length_that_lies_does_not_help(planner) -> None:
    body = b'{"changes": {"model": "' + b"x" * 1_500_000 + b'"}, "baseVersion": 4}'
    for length in ("10", "999999999", "-5", "x"):
        answer = planner.generic("PUT", DRAFT, body, content_type=JSON, CONTENT_LENGTH=length)
        assert answer.status_code in (400, 413), length
        refused(answer, answer.status_code)


def test_a_large_form_from_a_browser_session_is_refused(cast: Cast, rio, make_record) -> None:
    make_record(rio, pfa_id="PFA-1")
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(cast.planner)
    answer = browser.generic(
        "POST", "/api/pems/write-sync", b"x=" + b"y" * 3_000_000, content_type="application/x-www-form-urlencoded"
    )
    assert answer.status_code in (403, 413)
    refused(answer, answer.status_code)


@pytest.mark.parametrize(
    "query",
    [
        "nope=1",
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=-1",
        "limit=1&limit=2",
        "limit=%D9%A1",
        "cursor=abc",
        "status=nope",
        "search=%00",
        "search=%ff%00",
        "source=" + "x" * 501,
        "cursor=" + "x" * 3000,
        "limit=",
    ],
)
def test_a_bad_query_is_400(planner, query: str) -> None:
    refused(planner.get(f"/api/pfa/org-rio/records?{query}"))


@pytest.mark.parametrize(
    "query",
    [
        "",
        "organizationId=",
        "organizationId=org-rio&startDate=x",
        "organizationId=org-rio&status=x",
        "organizationId=org-rio&startDate=99999-01-01",
        "organizationId=org-rio&x=1",
    ],
)
def test_a_bad_status_query_is_4xx(planner, query: str) -> None:
    answer = planner.get(f"/api/pems/sync-status?{query}")
    refused(answer, 404 if query == "organizationId=" else 400)


@pytest.mark.parametrize(
    "path",
    [
        "/api/pfa/org%00rio/records",
        "/api/pfa/org-rio/records/PFA%00",
        "/api/pems/modifications/not-an-id",
        "/api/pems/modifications/%00",
        "/api/pems/sync-logs/1",
        "/api/pems/conflicts/x",
        "/api/pfa/org-rio/records/%ff%fe",
        "/api/pfa/ORG-RIO/records",
        "/api/pfa/org-rio/records/" + "x" * 5000,
    ],
)
def test_an_id_that_cannot_be_one_is_404(planner, path: str) -> None:
    refused(planner.get(path), 404)


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer a b", "Bearer \xff\xfe", "Bearer " + "x" * 5000, "Basic eDp5", "\xe9", "Bearer é"],
)
def test_a_bad_authorization_header_is_401(db, header: str) -> None:
    answer = Client().get("/api/organizations", HTTP_AUTHORIZATION=header)
    assert answer.status_code == 401
    assert answer.json()["error"] == "NOT_SIGNED_IN"


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "é"])
def test_a_bad_idempotency_key_is_400(planner, key: str) -> None:
    answer = planner.post(
        "/api/pems/write-sync", {"organizationId": "org-rio"}, format="json", HTTP_IDEMPOTENCY_KEY=key
    )
    refused(answer)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"organizationId": 7},
        {"organizationId": ["org-rio"]},
        {"organizationId": "org-rio", "priority": 11},
        {"organizationId": "org-rio", "priority": "1"},
        {"organizationId": "org-rio", "priority": True},
        {"organizationId": "org-rio", "modificationIds": "x"},
        {"organizationId": "org-rio", "modificationIds": ["x"]},
        {"organizationId": "org-rio", "modificationIds": [7]},
        {"organizationId": "org-rio", "nope": 1},
    ],
)
def test_a_bad_write_sync_is_400(planner, body: dict) -> None:
    refused(planner.post("/api/pems/write-sync", body, format="json"))


@pytest.mark.parametrize(
    "items",
    [
        [],
        [{}],
        ["x"],
        [{"pfaId": 7, "changes": {"model": "X"}, "baseVersion": 4}],
        [{"pfaId": "PFA-1", "changes": {"model": "X"}, "baseVersion": 4, "nope": 1}],
        [{"pfaId": "PFA-1", "changes": {"model": "X"}, "baseVersion": 4}] * 1001,
    ],
    ids=["none", "empty", "text", "id a number", "unknown key", "1001"],
)
def test_a_bad_bulk_is_400_and_stores_nothing(planner, items: list) -> None:
    refused(planner.put("/api/pfa/org-rio/drafts", {"items": items}, format="json"))


def test_the_unknown_key_is_named(planner) -> None:
    body = {"changes": {"model": "X"}, "baseVersion": 4, "version": 9}
    answer = planner.put(DRAFT, body, format="json").json()
    assert answer["details"]["fields"] == [
        {"field": "version", "code": "UNKNOWN_FIELD", "message": "'version' is not known here."}
    ]
    assert "version" in answer["message"]


def test_every_bad_field_is_listed_with_its_code(planner) -> None:
    changes = {"nope": 1, "monthlyRate": "1.234", "source": "Loan", "actualStart": "2026-01-01", "forecastEnd": 5}
    answer = planner.put(DRAFT, {"changes": changes, "baseVersion": 4}, format="json")
    assert answer.status_code == 400
    codes = {each["field"]: each["code"] for each in answer.json()["details"]["fields"]}
    assert codes == {
        "nope": "UNKNOWN_FIELD",
        "monthlyRate": "INVALID_VALUE",
        "source": "INVALID_ENUM_VALUE",
        "actualStart": "FIELD_NOT_EDITABLE",
        "forecastEnd": "INVALID_TYPE",
    }


def test_a_tampered_cursor_is_400(planner, rio, make_record) -> None:
    for _ in range(3):
        make_record(rio)
    cursor = planner.get("/api/pfa/org-rio/records?limit=1").json()["nextCursor"]
    assert planner.get(f"/api/pfa/org-rio/records?limit=1&cursor={cursor}").status_code == 200
    refused(planner.get(f"/api/pfa/org-rio/records?limit=1&cursor=x{cursor}"))
    refused(planner.get(f"/api/pems/modifications?organizationId=org-rio&cursor={cursor}"))


def test_a_defect_of_ours_is_a_500_that_tells_nothing(planner, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("pems_sync.api.sync_status.sync_status", broken)
    planner.raise_request_exception = False
    answer = planner.get("/api/pems/sync-status?organizationId=org-rio")
    assert (answer.status_code, answer.json()["error"]) == (500, "INTERNAL_ERROR")
    assert "hunter2" not in answer.content.decode()
    assert answer.json()["requestId"] == answer.headers["X-Request-Id"]


def test_withdraw_takes_no_odd_bodies(planner, cast: Cast, rio, make_record) -> None:
    row = acts.queued(make_record(rio), cast.planner)
    path = f"/api/pems/modifications/{row.pk}/withdraw"
    for body in (b"[]", b'{"nope": 1}', b'{"reason": 1}'):
        assert planner.generic("POST", path, body, content_type=JSON).status_code == 400
    assert acts.fresh(row).state == "queued"
