"""Records with my draft laid over them; drafts saved, listed, discarded; stale bases; hidden money."""

from __future__ import annotations

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from pems_sync.models import Connection, Membership, Modification, Organization
from tests.cast import Cast
from tests.integration import api_acts as acts


@pytest.fixture(autouse=True)
def _unhurried(settings):
    settings.API_USER_RATE_LIMIT = 1000


@pytest.fixture
def planner(api, cast: Cast):
    return api(cast.planner)


@pytest.fixture
def record(rio: Organization, make_record):
    return make_record(rio, pfa_id="PFA-1", version=4)


def put(client, changes: dict, *, version: int = 4, pfa: str = "PFA-1", **more):
    body = {"changes": changes, "baseVersion": version, **more}
    return client.put(f"/api/pfa/org-rio/drafts/{pfa}", body, format="json")


def test_a_draft_is_laid_over_my_record_only(planner, api, cast: Cast, record) -> None:
    saved = put(planner, {"model": "320", "monthlyRate": 6000}, reason="cheaper")
    assert saved.status_code == 200
    body = saved.json()
    assert body["changes"] == {"model": "320", "monthlyRate": "6000.00"}
    assert (body["pfaId"], body["baseVersion"], body["status"], body["warnings"]) == ("PFA-1", 4, "draft", [])
    mine = planner.get("/api/pfa/org-rio/records/PFA-1").json()
    assert (mine["fields"]["model"], mine["fields"]["monthlyRate"]) == ("320", "6000.00")
    assert (mine["version"], mine["syncStatus"]) == (4, "draft")
    assert mine["draft"]["modificationId"] == body["modificationId"]
    theirs = api(cast.second).get("/api/pfa/org-rio/records/PFA-1").json()
    assert (theirs["fields"]["model"], theirs["draft"], theirs["syncStatus"]) == ("330", None, "synced")


def test_saving_again_merges(planner, record) -> None:
    first = put(planner, {"model": "320"}).json()
    second = put(planner, {"manufacturer": "Volvo", "areaSilo": None}).json()
    assert second["modificationId"] == first["modificationId"]
    assert second["changes"] == {"model": "320", "manufacturer": "Volvo", "areaSilo": None}


def test_committed_changes_show_in_the_status_not_in_the_fields(planner, cast: Cast, record) -> None:
    acts.queued(record, cast.planner, model="320")
    shown = planner.get("/api/pfa/org-rio/records/PFA-1").json()
    assert (shown["fields"]["model"], shown["syncStatus"], shown["draft"]) == ("330", "queued", None)


def test_an_old_base_is_stale_only_where_i_edit(planner, record) -> None:
    acts.moved_in_pems(record, model="340")
    answer = put(planner, {"model": "320"})
    assert (answer.status_code, answer.json()["error"]) == (409, "STALE_BASE")
    details = answer.json()["details"]
    assert details["fields"] == ["model"]
    assert (details["record"]["version"], details["record"]["fields"]["model"]) == (5, "340")
    assert put(planner, {"areaSilo": "South"}).status_code == 200


def test_a_group_partner_that_moved_makes_the_base_stale(planner, record) -> None:
    acts.moved_in_pems(record, forecastStart="2026-02-01")
    assert put(planner, {"forecastEnd": "2026-07-31"}).json()["details"]["fields"] == ["forecastStart"]


def test_a_broken_rule_that_i_touch_is_refused_the_rest_warns(planner, rio, make_record) -> None:
    make_record(rio, pfa_id="PFA-1", version=4, originalEnd="2025-01-01")
    answer = put(planner, {"forecastEnd": "2025-01-01"})
    assert [each["code"] for each in answer.json()["details"]["fields"]] == ["INVALID_DATE_ORDER"]
    warnings = put(planner, {"model": "320"}).json()["warnings"]
    assert [(each["field"], each["code"]) for each in warnings] == [("originalEnd", "INVALID_DATE_ORDER")]


def test_reasons_are_cleaned_and_stay_readable(planner, record) -> None:
    for typed, kept in (
        ("Smith & Sons", "Smith & Sons"),
        ("<b>urgent</b> <script>alert(1)</script>", "urgent alert(1)"),
        ("a < b and c > d", "a < b and c > d"),
        ("&lt;img src=x onerror=alert(1)&gt;late", "late"),
        ("&amp;lt;b&amp;gt;x", "x"),
        ("tea &amp; cake", "tea & cake"),
    ):
        assert put(planner, {"model": "320"}, reason=typed).json()["modificationId"]
        assert planner.get("/api/pfa/org-rio/drafts/PFA-1").json()["reason"] == kept


def test_bulk_takes_each_on_its_own(planner, rio, make_record) -> None:
    for number in (1, 2, 3):
        make_record(rio, pfa_id=f"PFA-{number}")
    moved = acts.moved_in_pems(make_record(rio, pfa_id="PFA-4"), model="340")
    good = [{"pfaId": f"PFA-{number}", "changes": {"model": "X"}, "baseVersion": 4} for number in (1, 2)]
    bad = [
        {"pfaId": "PFA-3", "changes": {"nope": 1}, "baseVersion": 4},
        {"pfaId": moved.pfa_id, "changes": {"model": "X"}, "baseVersion": 4},
        {"pfaId": "PFA-NOPE", "changes": {"model": "X"}, "baseVersion": 4},
    ]
    answer = planner.put("/api/pfa/org-rio/drafts", {"items": [*good, *bad]}, format="json")
    assert answer.status_code == 200
    items = answer.json()["items"]
    assert all("modificationId" in each and "error" not in each for each in items[:2])
    assert [each["error"] for each in items[2:]] == ["INVALID_CHANGES", "STALE_BASE", "NOT_FOUND"]
    assert items[2]["details"]["fields"][0]["code"] == "UNKNOWN_FIELD"
    assert items[3]["details"]["record"]["version"] == 5
    assert [each["pfaId"] for each in items] == ["PFA-1", "PFA-2", "PFA-3", "PFA-4", "PFA-NOPE"]


def test_a_thousand_at_once(planner, rio, make_record) -> None:
    for number in range(1000):
        make_record(rio, pfa_id=f"PFA-{number}")
    items = [{"pfaId": f"PFA-{number}", "changes": {"model": "X"}, "baseVersion": 4} for number in range(1000)]
    answer = planner.put("/api/pfa/org-rio/drafts", {"items": items}, format="json")
    assert sum("modificationId" in each for each in answer.json()["items"]) == 1000


def test_drafts_are_listed_and_discarded(planner, rio, make_record, cast: Cast) -> None:
    for number in (1, 2, 3):
        acts.draft(make_record(rio, pfa_id=f"PFA-{number}"), cast.planner)
    acts.draft(make_record(rio, pfa_id="PFA-9"), cast.second)
    assert [each["pfaId"] for each in planner.get("/api/pfa/org-rio/drafts").json()["items"]] == [
        "PFA-1",
        "PFA-2",
        "PFA-3",
    ]
    assert planner.delete("/api/pfa/org-rio/drafts/PFA-2").status_code == 204
    assert planner.delete("/api/pfa/org-rio/drafts/PFA-2").status_code == 404
    assert planner.delete("/api/pfa/org-rio/drafts").status_code == 204
    assert planner.get("/api/pfa/org-rio/drafts").json() == {"items": [], "nextCursor": None}
    assert Modification.objects.drafts().count() == 1


def test_pages_meet_without_gap_or_overlap(planner, rio, make_record) -> None:
    wanted = sorted(make_record(rio).pfa_id for _ in range(7))
    seen, cursor = [], ""
    while cursor is not None:
        page = planner.get(f"/api/pfa/org-rio/records?limit=3{cursor}").json()
        seen += [each["pfaId"] for each in page["items"]]
        cursor = page["nextCursor"] and f"&cursor={page['nextCursor']}"
    assert seen == wanted


def test_records_are_filtered(planner, cast: Cast, rio, make_record) -> None:
    make_record(rio, pfa_id="PFA-1", category="Lifting", description="Crane 100%")
    make_record(rio, pfa_id="PFA-2", source="Purchase", purchasePrice="1.00", **{"class": "Crane"})
    acts.queued(make_record(rio, pfa_id="PFA-3", dor="BEO"), cast.planner)
    acts.draft(make_record(rio, pfa_id="PFA-4"), cast.planner)
    acts.draft(make_record(rio, pfa_id="PFA-5"), cast.second)

    def found(query: str) -> list[str]:
        answer = planner.get(f"/api/pfa/org-rio/records?{query}")
        return [each["pfaId"] for each in answer.json()["items"]]

    assert found("category=Lifting") == ["PFA-1"]
    assert found("class=Crane&source=Purchase") == ["PFA-2"]
    assert found("dor=BEO") == found("status=queued") == ["PFA-3"]
    assert found("status=draft") == ["PFA-4"]
    assert found("status=synced") == ["PFA-1", "PFA-2", "PFA-5"]
    assert found("search=100%25") == found("search=crane") == ["PFA-1"]
    assert found("search=fa-2") == ["PFA-2"]
    assert found("search=%25") == ["PFA-1"]


def test_money_is_hidden_without_view_financials(planner, cast: Cast, record) -> None:
    put(planner, {"monthlyRate": "6000.00"})
    membership = Membership.objects.get(user=cast.planner)
    membership.permissions.remove("view_financials")
    membership.save()
    shown = planner.get("/api/pfa/org-rio/records/PFA-1").json()
    assert shown["masked"] is True
    assert (shown["fields"]["monthlyRate"], shown["draft"]["changes"]["monthlyRate"]) == (None, None)
    assert put(planner, {"monthlyRate": "7000.00"}).json()["changes"] == {"monthlyRate": None}
    assert "000.00" not in planner.get("/api/pfa/org-rio/records").content.decode()
    acts.moved_in_pems(record, monthlyRate="5600.00")
    stale = put(planner, {"monthlyRate": "1.00"})
    assert stale.status_code == 409
    assert "5600" not in stale.content.decode()


def test_the_number_of_queries_does_not_grow_with_the_page(planner, cast: Cast, rio, make_record) -> None:
    def queries(path: str) -> int:
        with CaptureQueriesContext(
            database,
        ) as seen:
            assert planner.get(path).status_code == 200
        return len(seen)

    paths = [
        "/api/pfa/org-rio/records",
        "/api/pfa/org-rio/drafts",
        "/api/pems/modifications?organizationId=org-rio",
        "/api/pems/sync-logs?organizationId=org-rio",
        "/api/pems/conflicts?organizationId=org-rio",
        "/api/pems/dead-letters?organizationId=org-rio",
    ]
    Connection.objects.update(requests_per_second=10_000)
    for _ in range(2):
        _one_of_each(make_record, rio, cast)
    few = [queries(path) for path in paths]
    for _ in range(6):
        _one_of_each(make_record, rio, cast)
    assert [queries(path) for path in paths] == few
    assert max(few) <= 6


def _one_of_each(make_record, rio, cast: Cast) -> None:
    acts.draft(make_record(rio), cast.planner)
    acts.queued(make_record(rio), cast.second)
    acts.conflicted(make_record(rio), cast.planner)
    acts.buried(make_record(rio), cast.planner)
