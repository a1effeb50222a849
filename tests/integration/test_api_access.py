"""Who gets to see what: 401, then 404, then 403, and only then what is wrong with the request (S1, I12)."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from django.test import Client

from conflicts.models import Conflict
from pems_sync.models import Organization
from pems_sync.models.approval import ApprovalKind
from pems_sync.services.approving import ask
from tests.cast import Cast
from tests.integration import api_acts as acts


@pytest.fixture(autouse=True)
def _unhurried(settings):
    settings.API_USER_RATE_LIMIT = 1000


@pytest.fixture
def routes(rio: Organization, cast: Cast, make_record) -> list[tuple[str, str, dict | None]]:
    """Every address of an organization, with a body that would do."""
    record = make_record(rio, pfa_id="PFA-1")
    dead = acts.buried(make_record(rio), cast.planner)
    clash = acts.conflicted(make_record(rio), cast.planner)
    conflict = Conflict.objects.get(modification=clash)
    approval = ask(
        membership=acts.member(cast.lead), kind=ApprovalKind.ROLLBACK, subject="PFA-1", payload={}, summary="x"
    )
    body = {"changes": {"model": "X"}, "baseVersion": record.version}
    return [
        ("GET", "/api/pfa/org-rio/records", None),
        ("GET", "/api/pfa/org-rio/records/PFA-1", None),
        ("GET", "/api/pfa/org-rio/drafts", None),
        ("PUT", "/api/pfa/org-rio/drafts", {"items": [{"pfaId": "PFA-1", **body}]}),
        ("DELETE", "/api/pfa/org-rio/drafts", None),
        ("GET", "/api/pfa/org-rio/drafts/PFA-1", None),
        ("PUT", "/api/pfa/org-rio/drafts/PFA-1", body),
        ("DELETE", "/api/pfa/org-rio/drafts/PFA-1", None),
        ("GET", "/api/pems/policies?organizationId=org-rio", None),
        ("PUT", "/api/pems/policies", {"organizationId": "org-rio", "rules": []}),
        ("POST", "/api/pems/write-sync", {"organizationId": "org-rio"}),
        ("GET", "/api/pems/sync-status?organizationId=org-rio", None),
        ("GET", "/api/pems/queue-metrics?organizationId=org-rio", None),
        ("GET", "/api/pems/sync-logs?organizationId=org-rio", None),
        ("GET", f"/api/pems/sync-logs/{dead.job_id}", None),
        ("GET", "/api/pems/modifications?organizationId=org-rio", None),
        ("GET", f"/api/pems/modifications/{dead.pk}", None),
        ("POST", f"/api/pems/modifications/{dead.pk}/retry", None),
        ("POST", f"/api/pems/modifications/{dead.pk}/withdraw", {}),
        ("GET", "/api/pems/conflicts?organizationId=org-rio", None),
        ("GET", f"/api/pems/conflicts/{conflict.pk}", None),
        ("POST", f"/api/pems/conflicts/{conflict.pk}/resolve", {"resolution": "use_pems", "seenPemsVersion": 5}),
        ("POST", f"/api/pems/conflicts/{conflict.pk}/undo", None),
        (
            "POST",
            "/api/pems/conflicts/bulk-resolve",
            {"organizationId": "org-rio", "filter": {}, "resolution": "use_pems", "preview": True},
        ),
        ("GET", "/api/pfa/org-rio/records/PFA-1/history", None),
        ("POST", "/api/pfa/org-rio/records/PFA-1/rollback", {"version": record.version, "preview": True}),
        ("POST", f"/api/pems/sync-logs/{dead.job_id}/undo", {"preview": True}),
        ("GET", "/api/pems/approvals?organizationId=org-rio", None),
        ("POST", f"/api/pems/approvals/{approval.pk}/approve", {}),
        ("POST", f"/api/pems/approvals/{approval.pk}/reject", {}),
        ("GET", "/api/audit?organizationId=org-rio", None),
        ("GET", "/api/pems/dead-letters?organizationId=org-rio", None),
        ("POST", "/api/pems/dead-letters/retry", {"organizationId": "org-rio", "filter": {}}),
        ("POST", "/api/pems/dead-letters/discard", {"ids": [str(dead.pk)], "reason": "no"}),
        ("POST", "/api/pems/organizations/org-rio/pause", {"reason": "no"}),
        ("POST", "/api/pems/organizations/org-rio/resume", None),
        ("POST", "/api/pems/organizations/org-rio/breaker", {"order": "open", "reason": "no"}),
        ("GET", "/api/pems/organizations/org-rio/maintenance", None),
        ("POST", "/api/pems/organizations/org-rio/maintenance", {"name": "x", "starts": "22:00", "minutes": 60}),
        ("DELETE", "/api/pems/organizations/org-rio/maintenance/1", None),
    ]


def test_without_a_sign_in_every_address_is_401(routes) -> None:
    for method, path, body in routes:
        answer = Client().generic(method, path, json.dumps(body) if body else "", content_type="application/json")
        assert answer.status_code == 401, (method, path)
        assert answer.json()["error"] == "NOT_SIGNED_IN"
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_for_a_stranger_every_address_is_404_and_tells_nothing(routes, api, cast: Cast) -> None:
    stranger = api(cast.outsider)
    for method, path, body in routes:
        answer = stranger.generic(method, path, json.dumps(body) if body else "", content_type="application/json")
        assert answer.status_code == 404, (method, path, answer.content)
        assert answer.json()["error"] == "NOT_FOUND"
        assert "rio" not in answer.content.decode().lower()
        assert "PFA-1" not in answer.content.decode()


def test_a_stranger_sees_the_same_404_for_what_exists_and_what_does_not(routes, api, cast: Cast) -> None:
    stranger = api(cast.outsider)
    existing = next(path for method, path, _ in routes if "/modifications/" in path and method == "GET")
    seen = [stranger.get(path).json() for path in (existing, f"/api/pems/modifications/{uuid4()}")]
    assert [{**each, "requestId": ""} for each in seen] == [{**seen[0], "requestId": ""}] * 2


def test_a_stranger_with_nonsense_still_gets_404(routes, api, cast: Cast) -> None:
    stranger = api(cast.outsider)
    for method, path, body in routes:
        if body is None or "organizationId" in body or "dead-letters" in path:
            continue  # a body that names the organization must be read first
        answer = stranger.generic(method, path, "{not json", content_type="text/plain")
        assert answer.status_code == 404, (method, path)


def test_a_viewer_is_told_what_is_missing_before_what_is_wrong(routes, api, cast: Cast) -> None:
    viewer = api(cast.viewer)
    for method, path, body in routes:
        if method == "GET" and "/drafts" not in path:
            continue
        readable = "organizationId" in (body or {}) or "dead-letters" in path
        text = json.dumps({**(body or {}), "nonsense": 1}) if readable else "{not json"
        answer = viewer.generic(method, path, text, content_type="application/json")
        assert answer.status_code == 403, (method, path, answer.content)
        assert answer.json()["error"] == "FORBIDDEN"


def test_pollution_the_organization_comes_from_one_place(routes, api, cast: Cast) -> None:
    stranger = api(cast.outsider)
    assert stranger.get("/api/pfa/org-rio/records?organizationId=org-portarthur").status_code == 404
    assert stranger.get("/api/pfa/org-portarthur/records?organizationId=org-rio").status_code == 400
    twice = "/api/pems/sync-status?organizationId=org-portarthur&organizationId=org-rio"
    assert stranger.get(twice).status_code == 400
    body = {"organizationId": "org-rio"}
    answer = stranger.post("/api/pems/write-sync?organizationId=org-portarthur", body, format="json")
    assert answer.status_code == 404


def test_other_peoples_drafts_do_not_exist(rio, api, cast: Cast, make_record) -> None:
    row = acts.draft(make_record(rio), cast.planner)
    second = api(cast.second)
    assert second.get(f"/api/pems/modifications/{row.pk}").status_code == 404
    assert second.post(f"/api/pems/modifications/{row.pk}/withdraw").status_code == 404
    assert second.get("/api/pems/modifications?organizationId=org-rio").json()["items"] == []
    assert second.get(f"/api/pfa/org-rio/drafts/{row.pfa_id}").status_code == 404
    assert second.get(f"/api/pfa/org-rio/records/{row.pfa_id}").json()["draft"] is None
    sync = second.post(
        "/api/pems/write-sync", {"organizationId": "org-rio", "modificationIds": [str(row.pk)]}, format="json"
    )
    assert (sync.status_code, sync.json()["queuedCount"]) == (202, 0)
    assert [each["modificationId"] for each in sync.json()["rejected"]] == [str(row.pk)]


def test_organizations_lists_mine_only(api, cast: Cast) -> None:
    items = api(cast.planner).get("/api/organizations").json()["items"]
    assert [each["organizationId"] for each in items] == ["org-rio"]
    assert "connectionId" not in items[0]
    assert api(cast.admin).get("/api/organizations").json()["items"][0]["connectionId"] == "demo"


def test_a_membership_that_ended_counts_at_once(api, cast: Cast, make_record, rio) -> None:
    make_record(rio, pfa_id="PFA-1")
    planner = api(cast.planner)
    assert planner.get("/api/pfa/org-rio/records/PFA-1").status_code == 200
    cast.planner.memberships.all().delete()
    assert planner.get("/api/pfa/org-rio/records/PFA-1").status_code == 404


def test_a_deactivated_user_is_signed_out(api, cast: Cast) -> None:
    planner = api(cast.planner)
    cast.planner.is_active = False
    cast.planner.save()
    assert planner.get("/api/organizations").status_code == 401


def test_an_address_that_does_not_exist_is_404_in_the_envelope(db) -> None:
    for path in ("/api/nope", "/api/", "/api", "/api/organizations/", "/api/pfa/org-rio/records/a/b/c"):
        answer = Client().get(path)
        assert answer.status_code == 404, path
        assert answer.json()["error"] == "NOT_FOUND"
        assert answer.json()["requestId"] == answer.headers["X-Request-Id"]
        assert "nope" not in answer.json()["message"]


def test_a_method_that_is_not_taken_is_405(api, cast: Cast) -> None:
    answer = api(cast.planner).patch("/api/organizations", {}, format="json")
    assert (answer.status_code, answer.json()["error"]) == (405, "METHOD_NOT_ALLOWED")
