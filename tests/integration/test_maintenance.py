"""Maintenance windows: nothing is sent and nothing read inside, everything goes right after; who plans them, and who sees."""

from __future__ import annotations

import re
from datetime import time, timedelta
from time import sleep

import pytest
from django.core.management import CommandError, call_command

from pems_sync import delivery, inbound, maintenance, scheduling
from pems_sync.api.explaining import explain
from pems_sync.client.pace import Pace
from pems_sync.clock import database_now
from pems_sync.errors import PemsUnavailableError
from pems_sync.models import Connection, JournalEntry, MaintenanceWindow, Membership
from pems_sync.models.organization import Role
from pems_sync.reading import read_now
from pems_sync.services import maintaining
from pems_sync.services.maintaining import InvalidWindowError, Plan
from pems_sync.states import State
from pems_sync.store import redis_store
from tests.integration.admin_cast import list_of, page_of, staff, superuser

WINDOWS = "/api/pems/organizations/org-rio/maintenance"
BODY = {"name": "nightly", "starts": "22:00", "minutes": 120}
SHOWN = {
    "name": "nightly", "timezone": "UTC", "weekdays": [], "starts": "22:00", "minutes": 120,
    "firstDay": None, "lastDay": None,
}  # fmt: skip


def planned(connection: Connection, *, begins_in: float, minutes: int = 60) -> MaintenanceWindow:
    """A window of one day. It may have begun: `begins_in` is less than 0 then."""
    begin = database_now() + timedelta(seconds=begins_in)
    plan = Plan("nightly", begin.time(), minutes, first_day=begin.date(), last_day=begin.date())
    return maintaining.add_window(connection, plan, actor="rio-admin")


def opened(connection: Connection) -> MaintenanceWindow:
    """A window that began half an hour ago, and lasts as long again."""
    return planned(connection, begins_in=-1800)


def over(window: MaintenanceWindow) -> None:
    maintaining.remove_window(window.connection, window.pk, actor="rio-admin")


def told() -> list[JournalEntry]:
    return list(JournalEntry.objects.filter(kind="maintenance_changed").order_by("pk"))


# ---------------------------------------------------------------- what it holds back


def test_nothing_is_claimed_inside_and_everything_goes_right_after(engine):
    rows = [engine.edit(record, model="1") for record in engine.records[:3]]
    window = opened(engine.connection())
    asked = engine.sandbox.stats()["requests"]["total"]
    assert engine.claim() == []
    assert not scheduling.may_send(engine.connection())
    assert not scheduling.may_read(engine.connection())
    assert engine.sandbox.stats()["requests"]["total"] == asked
    over(window)
    engine.send()
    assert {engine.state(row) for row in rows} == {State.CONFIRMED}


def test_its_end_comes_by_itself(engine):
    row = engine.edit(engine.records[0], model="1")
    window = planned(engine.connection(), begins_in=-58.5, minutes=1)
    end = maintenance.open_till(engine.connection())
    assert end is not None
    assert maintenance.window_now(engine.connection(), end - timedelta(microseconds=1)) == window
    assert maintenance.window_now(engine.connection(), end) is None
    assert not scheduling.may_send(engine.connection(), end - timedelta(microseconds=1))
    assert engine.claim() == []
    sleep((end - database_now()).total_seconds() + 0.05)
    engine.send()
    assert engine.state(row) is State.CONFIRMED


def test_what_was_claimed_when_it_began_goes_back_unsent_and_unburnt(engine):
    row = engine.edit(engine.records[0], model="1")
    (claim,) = engine.claim()
    window = opened(engine.connection())
    delivery.deliver(claim.delivery_id)
    assert (engine.state(row), engine.row(row).attempts) == (State.QUEUED, 0)
    assert engine.applied(row) == []
    over(window)
    engine.settle()
    assert len(engine.applied(row)) == 1


def test_a_window_that_begins_while_its_slot_is_waited_for_is_kept_too(engine, monkeypatch):
    """The last look is right before the request: what was written down as a try is taken back."""
    row = engine.edit(engine.records[0], model="1")
    planned(engine.connection(), begins_in=100)
    (claim,) = engine.claim()
    enter = Pace.enter_or_later

    def and_time_passes(*args, **options):
        entered = enter(*args, **options)
        later = maintenance.monotonic() + 101
        monkeypatch.setattr(maintenance, "monotonic", lambda: later)
        return entered

    monkeypatch.setattr(Pace, "enter_or_later", and_time_passes)
    asked = engine.sandbox.stats()["requests"]["total"]
    delivery.deliver(claim.delivery_id)
    assert engine.sandbox.stats()["requests"]["total"] == asked
    assert (engine.state(row), engine.row(row).attempts) == (State.QUEUED, 0)
    assert "maintenance" in JournalEntry.objects.filter(kind="delivery_returned").latest("pk").reason


def test_reads_do_not_leave_either(engine):
    lost = engine.edit(engine.records[0], model="1")
    engine.sandbox.script("lost_reply", operation="PUT")
    engine.send()
    assert engine.state(lost) is State.UNKNOWN
    window = opened(engine.connection())
    asked = engine.sandbox.stats()["requests"]["total"]
    with pytest.raises(PemsUnavailableError, match="nightly"):
        read_now(engine.organization, [engine.records[1]], since=database_now())
    with pytest.raises(PemsUnavailableError, match="when the window ends"):
        inbound.pull(engine.organization)
    engine.prove()
    assert engine.sandbox.stats()["requests"]["total"] == asked
    assert engine.state(lost) is State.UNKNOWN
    over(window)
    engine.settle()
    assert engine.state(lost) is State.CONFIRMED


def test_other_connections_go_on(engine, connection):
    elsewhere = Connection.objects.create(slug="elsewhere", base_url="http://127.0.0.1:1", tenant="X", secret_name="x")
    opened(elsewhere)
    assert scheduling.may_send(engine.connection())
    assert not scheduling.may_send(elsewhere)


def test_another_process_sees_a_change_within_two_seconds(engine, monkeypatch):
    assert maintenance.window_now(engine.connection()) is None
    begun = database_now() - timedelta(minutes=1)
    MaintenanceWindow.objects.bulk_create(  # tells this process nothing, as a row of another one
        [MaintenanceWindow(connection=engine.connection(), name="n", starts=begun.time(), minutes=5)]
    )
    now = maintenance.monotonic()
    monkeypatch.setattr(maintenance, "monotonic", lambda: now + 2.1)
    assert maintenance.window_now(engine.connection()) is not None


# ---------------------------------------------------------------- what people see


def test_people_are_told_why_it_waits_and_until_when(engine):
    row, unknown = engine.edit(engine.records[0], model="1"), engine.edit(engine.records[1], model="1")
    engine.sandbox.script("lost_reply", pfaId=unknown.pfa_id)
    engine.send()
    row = engine.edit(engine.records[2], model="1")
    opened(engine.connection())
    end = maintenance.open_till(engine.connection())
    said = explain(engine.row(row), now=database_now(), money=True)
    assert f"Maintenance of PEMS until {end:%Y-%m-%d %H:%M} UTC: nightly" in said.text
    assert said.next_at == end
    proof = explain(engine.row(unknown), now=database_now(), money=True)
    assert "nightly" in proof.text
    assert proof.next == "The window ends, then PEMS is read back."


def test_sync_status_is_paused_and_counts_the_rest_of_the_window(engine, api):
    api = api(engine.planner)
    engine.edit(engine.records[0], model="1")
    status = "/api/pems/sync-status?organizationId=org-rio"
    before = api.get(status).json()
    assert (before["health"], before["estimatedDrainSeconds"]) == ("healthy", 0.002)
    window = opened(engine.connection())
    inside = api.get(status).json()
    assert (inside["health"], inside["paused"]) == ("paused", False)
    assert 29 * 60 < inside["estimatedDrainSeconds"] < 31 * 60
    over(window)
    assert api.get(status).json()["health"] == "healthy"


def test_the_estimate_goes_by_the_present_pace(engine, api):
    engine.edit(engine.records[0], model="1")
    key = f"pems-sync:pace:{engine.connection().slug}"
    redis_store().hset(key, mapping={"lowered": "0.5", "lowered_at": f"{database_now().timestamp() * 1e6:.0f}"})
    numbers = api(engine.planner).get("/api/pems/sync-status?organizationId=org-rio").json()
    assert numbers["estimatedDrainSeconds"] == 0.004


# ---------------------------------------------------------------- over the API


def managing_both(cast, portarthur, api):
    Membership.objects.create(user=cast.admin, organization=portarthur, role=Role.ADMIN)
    return api(cast.admin)


def test_who_manages_all_that_share_the_connection_plans(rio, portarthur, cast, api):
    assert api(cast.admin).post(WINDOWS, BODY, format="json").status_code == 403
    admin = managing_both(cast, portarthur, api)
    added = admin.post(WINDOWS, BODY, format="json")
    assert added.status_code == 201
    window = added.json()
    assert window == {"id": window["id"], **SHOWN, "open": window["open"]}
    assert api(cast.viewer).get(WINDOWS).json() == {"organizationId": "org-rio", "items": [window]}
    assert api(cast.outsider).get(WINDOWS).status_code == 404
    assert api(cast.lead).delete(f"{WINDOWS}/{window['id']}").status_code == 403
    assert admin.delete(f"{WINDOWS}/{window['id']}").status_code == 204
    assert admin.delete(f"{WINDOWS}/{window['id']}").status_code == 404
    assert admin.get(WINDOWS).json()["items"] == []


def test_each_organization_of_the_connection_finds_it_in_its_audit(rio, portarthur, cast, api):
    admin = managing_both(cast, portarthur, api)
    key = admin.post(WINDOWS, BODY, format="json").json()["id"]
    admin.delete(f"{WINDOWS}/{key}")
    entries = told()
    assert {each.organization_id for each in entries} == {rio.pk, portarthur.pk}
    assert {each.actor for each in entries} == {cast.admin.username}
    assert [(each.before, each.after) for each in entries if each.organization_id == rio.pk] == [
        (None, {"id": key, **SHOWN}), ({"id": key, **SHOWN}, None)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"timezone": "Europe/Atlantis"}, "timezone"), ({"timezone": "../../etc/localtime"}, "timezone"),
        ({"weekdays": [7]}, "weekdays"), ({"weekdays": [-1]}, "weekdays"), ({"weekdays": [1, 1]}, "weekdays"),
        ({"weekdays": "1"}, "weekdays"), ({"weekdays": [True]}, "weekdays"), ({"minutes": 0}, "minutes"),
        ({"minutes": 10081}, "minutes"), ({"minutes": "60"}, "minutes"), ({"minutes": 10**30}, "minutes"),
        ({"starts": "24:00"}, "starts"), ({"starts": "22:00:00"}, "starts"), ({"starts": 22}, "starts"),
        ({"firstDay": "2026-02-30"}, "firstDay"), ({"firstDay": 20260131}, "firstDay"),
        ({"firstDay": "2026-02-02", "lastDay": "2026-02-01"}, "lastDay"), ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"), ({"open": True}, "open"),
    ],
)  # fmt: skip
def test_a_window_that_cannot_be_is_refused_by_field(portarthur, cast, api, wrong, field):
    answer = managing_both(cast, portarthur, api).post(WINDOWS, {**BODY, **wrong}, format="json")
    assert answer.status_code == 400, answer.content
    assert field in {re.split(r"\W", each["field"])[0] for each in answer.json()["details"]["fields"]}
    assert not MaintenanceWindow.objects.exists()
    assert told() == []


def test_windows_of_another_connection_cannot_be_seen_or_removed(portarthur, cast, api):
    admin = managing_both(cast, portarthur, api)
    foreign = opened(
        Connection.objects.create(slug="elsewhere", base_url="http://127.0.0.1:1", tenant="X", secret_name="x")
    )
    assert admin.get(WINDOWS).json()["items"] == []
    for key in (str(foreign.pk), "0", "-1", "x", "9" * 30, "１"):
        assert admin.delete(f"{WINDOWS}/{key}").status_code == 404, key
    assert MaintenanceWindow.objects.get() == foreign


def test_there_is_an_end_to_how_many_there_are(rio, monkeypatch):
    monkeypatch.setattr(maintaining, "MOST_WINDOWS", 2)
    for _ in range(2):
        opened(rio.connection)
    with pytest.raises(InvalidWindowError, match="at most 2"):
        opened(rio.connection)


# ---------------------------------------------------------------- in the admin

MODEL = "pems_sync_maintenancewindow"
FORM = {
    "name": "nightly", "timezone": "Europe/Berlin", "starts": "22:00", "minutes": "120",
    "weekdays": ["5", "6"], "first_day": "2026-01-01", "last_day": "",
}  # fmt: skip


def test_superusers_add_change_and_remove_them(rio, portarthur):
    client = superuser()
    form = {"connection": str(rio.connection_id), **FORM}
    assert client.get(list_of(MODEL) + "add/").status_code == 200
    client.post(list_of(MODEL) + "add/", form)
    window = MaintenanceWindow.objects.get()
    assert (window.starts, window.weekdays, window.timezone) == (time(22), [5, 6], "Europe/Berlin")
    assert client.get(page_of(MODEL, window)).status_code == 200
    client.post(page_of(MODEL, window), {**FORM, "minutes": "60"})
    window.refresh_from_db()
    assert window.minutes == 60
    assert "Sat, Sun" in client.get(list_of(MODEL)).content.decode()
    client.post(page_of(MODEL, window).replace("/change/", "/delete/"), {"post": "yes"})
    assert not MaintenanceWindow.objects.exists()
    changes = [
        (each.before and each.before["minutes"], each.after and each.after["minutes"])
        for each in told()
        if each.organization_id == portarthur.pk
    ]
    assert changes == [(None, 120), (120, 60), (60, None)]
    assert {each.actor for each in told()} == {"root"}


def test_several_are_removed_from_the_list_and_journalled_one_by_one(rio):
    rows = [opened(rio.connection) for _ in range(2)]
    chosen = {"action": "delete_selected", "_selected_action": [row.pk for row in rows], "post": "yes"}
    superuser().post(list_of(MODEL), chosen)
    assert not MaintenanceWindow.objects.exists()
    assert [each.after for each in told()] == [told()[0].after, told()[1].after, None, None]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"timezone": "Europe/Atlantis"}, "is not known"), ({"minutes": "0"}, "must be 1 to 10080"),
        ({"weekdays": ["9"]}, "9 is not one of the available choices"),
        ({"last_day": "2025-12-31"}, "must not be before the first day"), ({"starts": ""}, "required"),
    ],
)  # fmt: skip
def test_the_form_says_what_is_wrong(rio, wrong, said):
    page = superuser().post(list_of(MODEL) + "add/", {"connection": str(rio.connection_id), **FORM, **wrong})
    assert said in page.content.decode()
    assert "Constraint" not in page.content.decode()
    assert not MaintenanceWindow.objects.exists()


def test_members_do_not_plan_in_the_admin(rio, cast):
    window = opened(rio.connection)
    client = staff(cast.admin)
    client.handler.enforce_csrf_checks = False
    assert client.get(list_of(MODEL)).status_code == 403
    assert client.post(list_of(MODEL) + "add/", {"connection": str(rio.connection_id), **FORM}).status_code == 403
    assert client.post(page_of(MODEL, window).replace("/change/", "/delete/"), {"post": "yes"}).status_code in (
        302,
        403,
    )
    assert MaintenanceWindow.objects.get() == window


# ---------------------------------------------------------------- by command


def test_the_command_lists_adds_and_removes(rio, portarthur, capsys):
    call_command("maintenance", "demo")
    assert "demo has no maintenance windows." in capsys.readouterr().out
    call_command(
        "maintenance", "demo", "--add", "nightly", "--starts", "22:00", "--minutes", "120",
        "--timezone", "Europe/Berlin", "--weekdays", "5,6", "--last-day", "2026-12-31",
    )  # fmt: skip
    window = MaintenanceWindow.objects.get()
    listed = capsys.readouterr().out
    assert f"{window.pk}  nightly: Sat, Sun 22:00 Europe/Berlin for 120 min, … to 2026-12-31" in listed
    call_command("maintenance", "demo", "--remove", str(window.pk))
    assert not MaintenanceWindow.objects.exists()
    assert [each.actor.startswith("manage.py (") for each in told()] == [True] * 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "Those known: demo"), (["demo", "--add", "x"], "needs --starts"),
        (["demo", "--add", "x", "--starts", "22:00", "--minutes", "0"], "Minutes must be 1 to 10080"),
        (["demo", "--add", "x", "--starts", "22:00", "--minutes", "1", "--timezone", "Mars"], "Timezone is not known"),
        (["demo", "--add", "x", "--starts", "25:00", "--minutes", "1"], "a time as in 22:00"),
        (["demo", "--add", "x", "--starts", "22:00", "--minutes", "1", "--weekdays", "7"], "Weekdays must be"),
        (["demo", "--remove", "7"], "has no window 7"), (["demo", "--remove", "7", "--add", "x"], "not both"),
    ],
)  # fmt: skip
def test_the_command_says_what_is_wrong(rio, arguments, said):
    with pytest.raises(CommandError, match=said):
        call_command("maintenance", *arguments)
    assert not MaintenanceWindow.objects.exists()
