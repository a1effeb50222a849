"""Where an edit stands, why, what happens next and who must act; retry, withdraw."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pems_sync.clock import database_now
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
def tell(planner):
    def tell(row: Modification) -> dict:
        answer = planner.get(f"/api/pems/modifications/{row.pk}")
        assert answer.status_code == 200
        told: dict = answer.json()
        return told

    return tell


@pytest.mark.parametrize(
    ("act", "status", "who"),
    [
        (acts.draft, "draft", "its author, rio-planner"),
        (acts.queued, "queued", "nobody: it goes on by itself"),
        (acts.retrying, "retrying", "nobody: it goes on by itself"),
        (acts.unknown, "verifying", "nobody: it goes on by itself"),
        (acts.conflicted, "conflict", "somebody who may resolve conflicts"),
        (acts.buried, "failed", "somebody who may sync"),
        (acts.confirmed, "synced", "nobody"),
    ],
)
def test_every_state_has_its_word_and_an_explanation(
    act, status: str, who: str, tell, planner, cast: Cast, rio, make_record
) -> None:
    row = act(make_record(rio), cast.planner)
    told = tell(row)
    assert (told["id"], told["pfaId"], told["status"]) == (str(row.pk), row.pfa_id, status)
    assert told["explanation"]["whoMustAct"] == who
    assert told["explanation"]["text"]
    assert told["explanation"]["next"]
    assert (told["explanation"]["nextAt"] is not None) == (status in ("retrying", "verifying"))
    listed = planner.get(f"/api/pems/modifications?organizationId=org-rio&status={status}").json()["items"]
    assert [each["id"] for each in listed] == [str(row.pk)]
    assert listed[0].items() <= {**told, "conflictId": listed[0]["conflictId"]}.items()


def test_the_timeline_tells_every_state_and_attempt(tell, cast: Cast, rio, make_record) -> None:
    told = tell(acts.buried(make_record(rio), cast.planner))
    events = [each["event"] for each in told["timeline"]]
    assert events == ["draft_saved", "modification_queued", "delivery_claimed", "modification_buried"]
    assert all(each["at"].endswith("Z") and each["text"] for each in told["timeline"])
    assert told["ledger"][0]["request"]["changes"] == {"model": "320"}
    assert told["ledger"][0]["outcomes"][0]["status"] == 422
    assert told["error"] == {"reason": "rejected", "code": "NO", "message": "PEMS says no", "field": None}


def test_a_conflict_is_named(tell, cast: Cast, rio, make_record) -> None:
    row = acts.conflicted(make_record(rio), cast.planner)
    assert tell(row)["conflictId"] == str(row.conflicts.get().pk)


def test_why_it_waits_behind_another(tell, cast: Cast, rio, make_record) -> None:
    record = make_record(rio)
    head = acts.conflicted(record, cast.second)
    record.refresh_from_db()
    behind = acts.queued(record, cast.planner, areaSilo="South")
    explanation = tell(behind)["explanation"]
    assert f"rio-second of the same record ({head.pk}), which is conflict" in explanation["text"]
    assert explanation["whoMustAct"] == "somebody who may resolve conflicts"


def test_why_it_waits_for_the_connection(tell, cast: Cast, rio: Organization, make_record, settings) -> None:
    row = acts.queued(make_record(rio), cast.planner)
    connections = Connection.objects.filter(pk=rio.connection_id)
    until = database_now() + timedelta(seconds=30)
    connections.update(held_until=until, held_reason="PEMS asked for a rest")
    assert "PEMS asked for a rest" in tell(row)["explanation"]["text"]
    connections.update(held_until=None, paused_at=until, paused_reason="PEMS refused the credentials.")
    assert "PEMS refused the credentials" in tell(row)["explanation"]["text"]
    Organization.objects.filter(pk=rio.pk).update(paused_at=until, paused_reason="year end")
    assert "year end" in tell(row)["explanation"]["text"]
    settings.ENABLE_WRITE_SYNC = False
    assert "switched off" in tell(row)["explanation"]["text"]


@pytest.mark.parametrize("act", [acts.draft, acts.queued, acts.retrying, acts.buried, acts.conflicted])
def test_withdraw_is_legal_while_it_waits(act, planner, cast: Cast, rio, make_record) -> None:
    row = act(make_record(rio), cast.planner)
    answer = planner.post(f"/api/pems/modifications/{row.pk}/withdraw", {"reason": "<i>no</i> need"}, format="json")
    assert (answer.status_code, answer.json()["status"]) == (200, "withdrawn")
    assert answer.json()["timeline"][-1]["reason"] == "no need"


@pytest.mark.parametrize("act", [acts.unknown, acts.confirmed])
def test_withdraw_is_not_legal_when_it_may_have_landed(act, planner, cast: Cast, rio, make_record) -> None:
    row = act(make_record(rio), cast.planner)
    answer = planner.post(f"/api/pems/modifications/{row.pk}/withdraw")
    assert (answer.status_code, answer.json()["error"]) == (409, "ILLEGAL_TRANSITION")


@pytest.mark.parametrize("act", [acts.retrying, acts.buried])
def test_retry_is_legal_from_retrying_and_failed(act, planner, cast: Cast, rio, make_record) -> None:
    row = act(make_record(rio), cast.planner)
    answer = planner.post(f"/api/pems/modifications/{row.pk}/retry")
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")


@pytest.mark.parametrize("act", [acts.draft, acts.queued, acts.unknown, acts.conflicted, acts.confirmed])
def test_retry_is_not_legal_elsewhere(act, planner, cast: Cast, rio, make_record) -> None:
    row = act(make_record(rio), cast.planner)
    answer = planner.post(f"/api/pems/modifications/{row.pk}/retry")
    assert (answer.status_code, answer.json()["error"]) == (409, "ILLEGAL_TRANSITION")


@pytest.mark.parametrize(
    ("message", "at_field"), [('{"monthlyRate": 6543.21} is odd', ""), ("6543.21 is too low", "monthlyRate")]
)
def test_money_is_hidden_everywhere_in_the_story(
    message: str, at_field: str, planner, cast: Cast, rio, make_record
) -> None:
    record = make_record(rio)
    dead = acts.buried(record, cast.second, message=message, at_field=at_field, monthlyRate="6543.21")
    Membership.objects.filter(user=cast.planner).update(
        permissions=["read", "draft", "sync", "resolve", "edit_forecast"]
    )
    for path in (
        f"/api/pems/modifications/{dead.pk}",
        "/api/pems/modifications?organizationId=org-rio",
        "/api/pems/dead-letters?organizationId=org-rio",
    ):
        answer = planner.get(path)
        assert answer.status_code == 200
        assert "6543" not in answer.content.decode(), path
    assert planner.get(f"/api/pems/modifications/{dead.pk}").json()["masked"] is True


def test_the_list_is_newest_first_and_by_record(planner, cast: Cast, rio, make_record) -> None:
    rows = [acts.queued(make_record(rio), cast.second) for _ in range(3)]
    newest = [str(row.pk) for row in reversed(rows)]
    first = planner.get("/api/pems/modifications?organizationId=org-rio&limit=2").json()
    rest = planner.get(f"/api/pems/modifications?organizationId=org-rio&limit=2&cursor={first['nextCursor']}").json()
    assert [each["id"] for each in first["items"] + rest["items"]] == newest
    assert rest["nextCursor"] is None
    one = planner.get(f"/api/pems/modifications?organizationId=org-rio&pfaId={rows[0].pfa_id}").json()["items"]
    assert [each["id"] for each in one] == [newest[-1]]
