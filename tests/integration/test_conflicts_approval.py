"""A resolution that changes a large amount waits for another person, who carries it out as theirs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from conflicts.models import Conflict
from pems_sync.models import Approval, Membership, Organization
from tests.cast import Cast
from tests.integration import api_acts as acts


@pytest.fixture(autouse=True)
def _careful(settings, rio: Organization) -> None:
    settings.API_USER_RATE_LIMIT = 1000
    Organization.objects.filter(pk=rio.pk).update(second_approval=True, money_threshold=Decimal("1000.00"))


@pytest.fixture
def planner(api, cast: Cast):
    return api(cast.planner)


@pytest.fixture
def lead(api, cast: Cast):
    return api(cast.lead)


@pytest.fixture
def record(rio, make_record):
    return make_record(rio)


@pytest.fixture
def costly(record, cast: Cast) -> Conflict:
    row = acts.draft(record, cast.planner, monthlyRate="9543.21", model="320")
    acts.moved_in_pems(record, monthlyRate="5432.10")
    acts.commit(membership=acts.member(cast.planner), modification_ids=[row.pk])
    return Conflict.objects.get(modification=row)


def resolve(client, conflict: Conflict, resolution: str = "use_local", seen: int = 5, **more: Any):
    body = {"resolution": resolution, "seenPemsVersion": seen, **more}
    return client.post(f"/api/pems/conflicts/{conflict.pk}/resolve", body, format="json")


def shown(client, conflict: Conflict) -> dict[str, Any]:
    answer: dict[str, Any] = client.get(f"/api/pems/conflicts/{conflict.pk}").json()
    return answer


def test_it_waits_for_another_person_and_is_carried_out_as_theirs(planner, lead, cast: Cast, costly: Conflict) -> None:
    answer = resolve(planner, costly, comment="new contract")
    assert (answer.status_code, answer.json()["error"]) == (202, "APPROVAL_PENDING")
    approval_id = answer.json()["details"]["approvalId"]
    waiting = shown(planner, costly)
    assert (waiting["status"], waiting["approval"]["id"], waiting["approval"]["askedBy"]) == (
        "unresolved",
        approval_id,
        "rio-planner",
    )
    assert acts.fresh(costly.modification).state == "conflicted"
    assert "9543" not in Approval.objects.get().summary
    assert planner.post(f"/api/pems/approvals/{approval_id}/approve", {}, format="json").status_code == 403
    approved = lead.post(f"/api/pems/approvals/{approval_id}/approve", {"comment": "agreed"}, format="json")
    assert approved.status_code == 200, approved.json()
    done = shown(planner, costly)
    assert (done["status"], done["resolution"], done["resolvedBy"], done["approval"]) == (
        "resolved",
        "use_local",
        "rio-lead",
        None,
    )
    assert done["comment"] == "asked by rio-planner, approved by rio-lead: new contract; agreed"
    row = acts.fresh(costly.modification)
    assert (row.state, row.authorised_by, row.changes["monthlyRate"]) == ("queued", cast.lead, "9543.21")


def test_a_merge_that_is_approved_is_the_merge_that_was_asked_for(planner, lead, costly: Conflict) -> None:
    answer = resolve(planner, costly, "merge", mergedData={"monthlyRate": 8000, "dor": "BEO"})
    lead.post(f"/api/pems/approvals/{answer.json()['approvalId']}/approve", {}, format="json")
    assert acts.fresh(costly.modification).changes == {"model": "320", "monthlyRate": "8000.00", "dor": "BEO"}


def test_what_stays_below_the_threshold_or_writes_nothing_asks_nobody(planner, costly: Conflict) -> None:
    assert resolve(planner, costly, "merge", mergedData={"monthlyRate": "6432.10"}).status_code == 200
    planner.post(f"/api/pems/conflicts/{costly.pk}/undo")
    assert resolve(planner, costly, "use_pems").status_code == 200
    assert Approval.objects.count() == 0


def test_it_is_asked_once_and_stays_open_when_it_is_refused(planner, lead, costly: Conflict) -> None:
    approval_id = resolve(planner, costly).json()["approvalId"]
    assert resolve(planner, costly).json()["error"] == "APPROVAL_OPEN"
    lead.post(f"/api/pems/approvals/{approval_id}/reject", {"comment": "no"}, format="json")
    again = shown(planner, costly)
    assert (again["status"], again["approval"]) == ("unresolved", None)
    assert resolve(planner, costly).status_code == 202


def test_what_was_agreed_to_must_still_be_what_was_seen(planner, lead, costly: Conflict, record) -> None:
    """K5"""
    approval_id = resolve(planner, costly).json()["approvalId"]
    record.refresh_from_db()
    acts.moved_in_pems(record, monthlyRate="100.00")
    answer = lead.post(f"/api/pems/approvals/{approval_id}/approve", {}, format="json")
    assert (answer.status_code, answer.json()["error"]) == (409, "CONFLICT_MOVED")
    assert acts.fresh(costly.modification).state == "conflicted"
    assert Approval.objects.get().decided_at is None


def test_a_move_in_other_fields_needs_nobody_to_ask_again(planner, lead, costly: Conflict, record) -> None:
    record.refresh_from_db()
    acts.moved_in_pems(record, dor="BEO")
    approval_id = resolve(planner, costly).json()["approvalId"]
    acts.moved_in_pems(record, areaSilo="West")
    assert lead.post(f"/api/pems/approvals/{approval_id}/approve", {}, format="json").status_code == 200
    assert acts.fresh(costly.modification).expected_version == 7


def test_whoever_agrees_needs_the_rights_to_what_is_written(planner, lead, cast: Cast, costly: Conflict) -> None:
    approval_id = resolve(planner, costly).json()["approvalId"]
    Membership.objects.filter(user=cast.lead).update(permissions=["read", "resolve", "view_financials"])
    answer = lead.post(f"/api/pems/approvals/{approval_id}/approve", {}, format="json")
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_CHANGES")
    assert Approval.objects.get().decided_at is None


def test_in_bulk_it_is_told_beforehand_and_skipped(planner, costly: Conflict) -> None:
    body = {"organizationId": "org-rio", "resolution": "use_local"}
    previewed = planner.post(
        "/api/pems/conflicts/bulk-resolve", {**body, "preview": True, "filter": {}}, format="json"
    ).json()
    assert previewed["items"][0]["needsApproval"] is True
    token = previewed["previewToken"]
    answer = planner.post(
        "/api/pems/conflicts/bulk-resolve", {**body, "preview": False, "previewToken": token}, format="json"
    ).json()
    assert (answer["applied"], answer["failed"]) == ([], [])
    assert "agree" in answer["skipped"][0]["reason"]
    assert shown(planner, costly)["approval"] is not None
