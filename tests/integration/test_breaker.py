"""The breaker of a connection: what opens it, its one canary, what closes it, and what people order (D10)."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import pytest
import redis
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from redis.backoff import NoBackoff
from redis.retry import Retry

from pems_sync import delivery, scheduling
from pems_sync.api.explaining import explain
from pems_sync.client.base import Fault, FaultKind, Unknown
from pems_sync.client.breaker import Seen
from pems_sync.client.connect import counting_for, pace_for
from pems_sync.clock import database_now
from pems_sync.errors import PemsUnavailableError
from pems_sync.models import Connection, JournalEntry, Membership, Modification
from pems_sync.models.organization import Breaker, BreakerOverride, Role
from pems_sync.reading import read_now
from pems_sync.services import breaking, connections
from pems_sync.states import State
from pems_sync.store import redis_store
from tests.concurrency.threads import together
from tests.engine import Engine

GONE = Fault(FaultKind.UNREACHABLE, "refused")
LOST = (Unknown("no answer within 30 s"),)


def told(kind: str, organization=None) -> int:
    rows = JournalEntry.objects.filter(kind=kind)
    return (rows.filter(organization=organization) if organization else rows).count()


def fail(connection: Connection, times: int = 5) -> None:
    for _ in range(times):
        connections.replied(connection, LOST)


def opened(engine: Engine, *, due: bool = False) -> Connection:
    """The breaker is open; `due`: and it is time for a canary."""
    engine.forget_requests()
    fail(engine.connection())
    assert engine.connection().breaker == Breaker.OPEN
    if due:
        Connection.objects.update(breaker_probe_at=database_now() - timedelta(seconds=1))
    return engine.connection()


# ---------------------------------------------------------------- opening


def test_a_rate_of_failures_opens_it_and_each_organization_is_told_once(engine, portarthur):
    opened(engine)
    row = engine.connection()
    assert "5 of 5 requests" in row.breaker_reason
    assert 0.8 < (row.breaker_probe_at - row.breaker_since).total_seconds() <= 1
    assert (told("breaker_opened", engine.organization), told("breaker_opened", portarthur)) == (1, 1)
    assert not JournalEntry.objects.filter(kind="breaker_opened").exclude(wire_type="").exists()


def test_three_in_a_row_that_reach_nobody_open_it_and_an_answer_between_does_not(engine):
    connection = engine.connection()
    for _ in range(2):
        connections.faulted(connection, GONE)
    for _ in range(4):
        connections.answered(connection)
    connections.faulted(connection, GONE)
    assert engine.connection().breaker == Breaker.CLOSED
    for _ in range(2):
        connections.faulted(connection, GONE)
    assert engine.connection().breaker == Breaker.OPEN


@pytest.mark.parametrize("kind", ["status_429", "item_422", "item_423"])
def test_whatever_pems_says_is_an_answer(engine, kind):
    for record in engine.records[:5]:
        engine.edit(record, model="1")
        engine.sandbox.script(kind, pfaId=record.pfa_id)
        engine.send()
        Connection.objects.update(held_until=None)
        redis_store().hset(f"pems-sync:pace:{engine.connection().slug}", "held", "0")
    assert engine.connection().breaker == Breaker.CLOSED


def test_lost_replies_among_answers_do_not_open_it(engine):
    for number, record in enumerate(engine.records[:9]):
        engine.edit(record, model="1")
        if number % 3 == 2:
            engine.sandbox.script("lost_reply", pfaId=record.pfa_id)
        engine.send()
    assert engine.connection().breaker == Breaker.CLOSED


def test_failed_reads_count_as_failed_writes_do(engine):
    engine.sandbox.script("status_502", operation="GET", times=None)
    for record in engine.records[:5]:
        with suppress(PemsUnavailableError):
            read_now(engine.organization, [record], since=database_now())
    assert engine.connection().breaker == Breaker.OPEN
    asked = engine.sandbox.stats()["requests"]["total"]
    with pytest.raises(PemsUnavailableError):
        read_now(engine.organization, [engine.records[9]], since=database_now())
    assert engine.sandbox.stats()["requests"]["total"] == asked, "nothing is asked while it is open"


@pytest.mark.usefixtures("transactional_db")
def test_many_workers_that_fail_at_once_open_it_once(engine):
    for _ in range(4):
        counting_for(engine.organization.connection).count(Seen.FAILED)
    held = [engine.connection() for _ in range(6)]
    together(*[lambda each=each: connections.replied(each, LOST) for each in held])
    assert told("breaker_opened", engine.organization) == 1
    assert breaking.openings([engine.connection()]) == [1]


def test_a_failure_of_a_request_begun_before_it_changed_says_nothing(engine):
    before = engine.connection()
    breaking.saw(opened(engine, due=True), Seen.ANSWERED)  # begun while it was open: not its canary
    assert engine.connection().breaker == Breaker.OPEN
    canary = engine.connection()
    assert breaking.take_canary(canary, uuid4(), patience_seconds=60)
    fail(before, 9)
    assert engine.connection().breaker == Breaker.HALF_OPEN
    connections.answered(canary)
    fail(before, 9)
    assert engine.connection().breaker == Breaker.CLOSED


# ---------------------------------------------------------------- open


def test_while_it_is_open_nothing_moves_and_nothing_is_journalled(engine):
    rows = [engine.edit(record, model="1") for record in engine.records[:3]]
    (first, *_) = claims = engine.claim()
    assert claims
    opened(engine)
    for each in claims:
        delivery.deliver(each.delivery_id)
    entries = JournalEntry.objects.count()
    assert {engine.state(row) for row in rows} == {State.QUEUED}, "what was claimed and not started is handed back"
    assert not scheduling.may_send(engine.connection())
    assert not scheduling.may_read(engine.connection())
    assert engine.claim() == []
    assert scheduling.due_connections() == []
    delivery.deliver(first.delivery_id)
    assert JournalEntry.objects.count() == entries
    assert {engine.row(row).attempts for row in rows} == {0}


def test_people_are_told_that_pems_does_not_answer_and_when_it_is_tried(engine):
    row = engine.edit(engine.records[0], model="1")
    connection = opened(engine)
    said = explain(engine.row(row), now=database_now(), money=True)
    assert "PEMS does not answer" in said.text
    assert "no answer within 30 s" in said.text
    assert said.next_at == connection.breaker_probe_at


# ---------------------------------------------------------------- the canary


def test_the_canary_is_the_least_risky_edit_and_travels_alone(engine):
    engine.edit(engine.records[0], monthlyRate="7777.00")
    engine.edit(engine.records[1], model="1", areaSilo="East")
    harmless = engine.edit(engine.records[2], model="1")
    engine.edit(engine.records[3], isDiscontinued=True)
    opened(engine, due=True)
    (claim,) = engine.claim()
    assert [row.pk for row in claim.rows] == [harmless.pk]
    assert (engine.connection().breaker, engine.connection().breaker_canary) == (Breaker.HALF_OPEN, claim.delivery_id)
    assert engine.claim() == []
    delivery.deliver(claim.delivery_id)
    assert engine.state(harmless) is State.CONFIRMED
    assert engine.connection().breaker == Breaker.CLOSED
    assert told("breaker_closed", engine.organization) == 1


@pytest.mark.usefixtures("transactional_db")
def test_two_pumps_at_once_send_one_canary(engine):
    for record in engine.records[:6]:
        engine.edit(record, model="1")
    opened(engine, due=True)
    claimed = together(*[engine.claim] * 4)
    assert sorted(len(claims) for claims in claimed) == [0, 0, 0, 1]
    assert Modification.objects.filter(state=State.SENDING).count() == 1


@pytest.mark.usefixtures("transactional_db")
def test_of_many_readers_one_is_the_canary(engine):
    opened(engine, due=True)
    held = [engine.connection() for _ in range(5)]
    taken = together(*[lambda each=each: connections.let_through(each, within_seconds=1) for each in held])
    assert sorted(taken) == [False] * 4 + [True]


def test_a_read_waits_for_an_edit_that_can_go_in_its_place(engine):
    opened(engine, due=True)
    engine.edit(engine.records[0], model="1")
    assert not connections.let_through(engine.connection(), within_seconds=1)
    Modification.objects.update(not_before=database_now() + timedelta(minutes=1))
    read_now(engine.organization, [engine.records[1]], since=database_now())
    assert engine.connection().breaker == Breaker.CLOSED


def test_an_answered_canary_begins_slowly(engine):
    engine.edit(engine.records[0], model="1")
    opened(engine, due=True)
    engine.send()
    limit = engine.connection().requests_per_second
    assert pace_for(engine.connection()).rate() < limit / 2


def test_a_canary_without_an_answer_opens_it_for_longer_and_tells_nobody_anew(engine):
    engine.edit(engine.records[0], model="1")
    opened(engine)
    engine.sandbox.script("status_502", times=None)
    pauses = []
    for _ in range(6):
        engine.skip_waits()
        engine.send() or engine.prove()
        row = engine.connection()
        assert row.breaker == Breaker.OPEN
        pauses.append((row.breaker_probe_at - row.breaker_since).total_seconds())
    assert all(0.9 * pause <= seen <= pause for pause, seen in zip([2, 4, 8, 15, 15, 15], pauses, strict=True))
    assert told("breaker_opened", engine.organization) == 1


def test_a_canary_whose_worker_died_makes_way_for_another(engine):
    engine.edit(engine.records[0], model="1")
    opened(engine, due=True)
    (dead,) = engine.claim()
    assert dead.rows
    Connection.objects.update(breaker_probe_at=database_now() - timedelta(seconds=1))  # its time is over
    engine.expire_leases()
    (claim,) = engine.claim()
    assert claim.delivery_id != dead.delivery_id
    delivery.deliver(claim.delivery_id)
    assert engine.connection().breaker == Breaker.CLOSED


def test_a_canary_that_could_not_be_sent_is_given_back(engine, monkeypatch):
    row = engine.edit(engine.records[0], model="1")
    opened(engine, due=True)
    (claim,) = engine.claim()
    monkeypatch.delenv("PEMS_USER")
    monkeypatch.setattr("pems_sync.client.secrets._cached", None)
    delivery.deliver(claim.delivery_id)
    assert engine.connection().breaker == Breaker.OPEN
    assert engine.connection().breaker_trips == 0
    assert engine.state(row) is State.QUEUED


# ---------------------------------------------------------------- what an outage costs


@pytest.mark.parametrize("kind", ["status_502", "reset_before", "status_503"])
def test_an_outage_of_any_length_buries_nothing(engine, kind):
    """D10: more canaries long than an edit has tries, then PEMS answers again."""
    rows = [engine.edit(record, model="1") for record in engine.records[:6]]
    engine.sandbox.script(kind, times=None, **({"retryAfter": None} if kind == "status_503" else {}))
    engine.forget_requests()
    engine.send()  # at once, as a fleet would
    assert engine.connection().breaker == Breaker.OPEN
    for _ in range(7):
        engine.skip_waits()
        engine.send() or engine.prove()
    assert engine.connection().breaker_trips >= 4
    engine.sandbox.clear_faults()
    engine.settle()
    assert {engine.state(row) for row in rows} == {State.CONFIRMED}
    assert {engine.row(row).attempts for row in rows} == {0}
    assert all(len(engine.applied(row)) == 1 for row in rows)


def test_a_try_of_good_days_is_burnt_as_ever(engine):
    row = engine.edit(engine.records[0], model="1")
    engine.sandbox.script("reset_before", operation="PUT")
    engine.send()
    engine.prove()
    assert (engine.state(row), engine.row(row).attempts) == (State.QUEUED, 1)


def test_a_restart_of_redis_loses_only_the_counts(engine):
    engine.forget_requests()
    fail(engine.connection(), 4)
    redis_store().flushdb()
    fail(engine.connection(), 1)
    assert engine.connection().breaker == Breaker.CLOSED
    opened(engine)
    redis_store().flushdb()
    assert engine.connection().breaker == Breaker.OPEN
    assert not scheduling.may_send(engine.connection())


def test_without_redis_nothing_is_counted_and_nothing_raises(engine, monkeypatch):
    counting = counting_for(engine.connection())
    nobody = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    monkeypatch.setattr(counting, "_count", nobody.register_script("return 1"))
    fail(engine.connection(), 9)
    assert engine.connection().breaker == Breaker.CLOSED


# ---------------------------------------------------------------- orders


def order(engine: Engine, word: str) -> Connection:
    breaking.order(engine.connection(), order=breaking.ORDERS[word], reason="inventory", actor="rio-admin")
    return engine.connection()


def test_forced_open_keeps_pems_quiet_whatever_it_answers(engine, portarthur):
    row = engine.edit(engine.records[0], model="1")
    connection = order(engine, "open")
    assert (connection.breaker, breaking.state_of(connection)) == (Breaker.CLOSED, Breaker.OPEN)
    assert not scheduling.may_send(connection)
    assert not scheduling.may_read(connection)
    assert engine.claim() == []
    assert "inventory" in explain(engine.row(row), now=database_now(), money=True).text
    entry = JournalEntry.objects.filter(kind="breaker_overridden").order_by("pk").first()
    assert (entry.actor, entry.reason, entry.after) == ("rio-admin", "inventory", {"breaker": "open", "order": "open"})
    assert told("breaker_overridden", portarthur) == 1
    order(engine, "auto")
    engine.settle()
    assert engine.state(row) is State.CONFIRMED


def test_forced_closed_sends_although_it_looks_bad_and_the_machine_goes_on_counting(engine):
    row = engine.edit(engine.records[0], model="1")
    opened(engine)
    connection = order(engine, "closed")
    assert (connection.breaker, breaking.state_of(connection)) == (Breaker.OPEN, Breaker.CLOSED)
    engine.send()
    assert engine.state(row) is State.CONFIRMED
    assert engine.connection().breaker == Breaker.CLOSED, "an answer closes it underneath as well"
    fail(engine.connection())
    assert engine.connection().breaker == Breaker.OPEN
    assert scheduling.may_send(engine.connection())
    assert not scheduling.may_send(order(engine, "auto"))


def test_the_command_wants_a_known_connection_and_a_reason(engine, capsys):
    with pytest.raises(CommandError, match="--reason"):
        call_command("breaker", "demo", "open")
    with pytest.raises(CommandError, match="demo"):
        call_command("breaker", "nope", "auto")
    call_command("breaker", "demo", "open", "--reason", "inventory")
    assert engine.connection().breaker_override == BreakerOverride.OPEN
    assert JournalEntry.objects.filter(kind="breaker_overridden", actor__startswith="manage.py").exists()
    call_command("breaker", "demo", "auto")
    assert engine.connection().breaker_override == BreakerOverride.NONE
    assert "order auto" in capsys.readouterr().out


# ---------------------------------------------------------------- over the API

ADDRESS = "/api/pems/organizations/org-rio/breaker"


def test_who_manages_every_organization_of_the_connection_orders(rio, portarthur, cast, api):
    admin = api(cast.admin)
    body = {"order": "open", "reason": "inventory"}
    refused = admin.post(ADDRESS, body, format="json")
    assert (refused.status_code, refused.json()["error"]) == (403, "FORBIDDEN")
    assert "portarthur" not in refused.content.decode().lower(), "not even its name"
    assert Connection.objects.get().breaker_override == ""
    manage_both(cast.admin, portarthur)
    assert api(cast.lead).post(ADDRESS, body, format="json").status_code == 403
    assert api(cast.outsider).post(ADDRESS, body, format="json").status_code == 404
    for bad in ({"order": "open"}, {"order": "open", "reason": ""}, {"order": "shut", "reason": "x"}, {}):
        assert admin.post(ADDRESS, bad, format="json").status_code == 400, bad
    given = admin.post(ADDRESS, body, format="json")
    assert given.json() == {
        "organizationId": "org-rio", "breaker": "open", "order": "open", "reason": "inventory"
    }  # fmt: skip
    status = admin.get("/api/pems/sync-status?organizationId=org-rio").json()
    assert (status["breaker"], status["health"]) == ("open", "down")
    lifted = admin.post(ADDRESS, {"order": "auto"}, format="json").json()
    assert (lifted["breaker"], lifted["order"], lifted["reason"]) == ("closed", "auto", None)


def manage_both(user: User, portarthur) -> None:
    Membership.objects.create(user=user, organization=portarthur, role=Role.ADMIN)
