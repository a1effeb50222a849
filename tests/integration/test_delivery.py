"""The way of an edit, step by step: what each answer of PEMS does to it (PROTOCOL.md, Outcomes of a request)."""

import time
from datetime import timedelta

import pytest
import redis
from django.conf import settings
from django.db import connection as database
from redis.backoff import NoBackoff
from redis.retry import Retry

from pems_sync import delivery, dispatch, scheduling
from pems_sync.client import connect
from pems_sync.client.pace import Pace, PaceUnavailableError
from pems_sync.clock import database_now
from pems_sync.models import Attempt, AttemptOutcome, Connection, JournalEntry, Modification, Record
from pems_sync.states import DeadReason, State
from tests.invariants import assert_applied_once, assert_invariants


def outcomes(row):
    return [each.kind for each in AttemptOutcome.objects.filter(attempt__modification=row).order_by("pk")]


def test_a_committed_edit_reaches_pems_once_and_the_record_follows(engine):
    record = engine.records[0]
    row = engine.edit(record, model="NEW-1")
    assert engine.state(row) is State.QUEUED
    assert engine.send() == 1
    assert engine.state(row) is State.CONFIRMED
    assert engine.in_pems(record)["model"] == "NEW-1"
    stored = Record.objects.get(pk=record.pk)
    assert (stored.fields["model"], stored.version) == ("NEW-1", record.version + 1)
    assert len(engine.applied(row)) == 1
    assert outcomes(row) == ["confirmed"]
    assert_invariants(engine.organization)


def test_with_a_backlog_edits_travel_in_batches(engine, monkeypatch):
    monkeypatch.setattr(scheduling, "CLAIM_HORIZON_SECONDS", 0.004)
    rows = [engine.edit(record, model=f"NEW-{number}") for number, record in enumerate(engine.records[:12])]
    assert engine.send() == 2
    engine.settle()
    assert {engine.state(row) for row in rows} == {State.CONFIRMED}
    assert all(len(engine.applied(row)) == 1 for row in rows)
    assert set(Attempt.objects.values_list("batch_of", flat=True)) == {6}
    assert_applied_once(engine)


def test_an_attempt_is_written_down_before_the_bytes_leave(engine):
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.sandbox.script("lost_reply")
    engine.send()
    attempt = Attempt.objects.get(modification=row)
    assert (attempt.version_sent, attempt.request["changes"]) == (row.expected_version, {"model": "NEW-1"})
    assert "sandbox" not in str(attempt.request), "no credentials"


# ---------------------------------------------------------------- connection faults: no attempt burnt


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        ("status_429", {"retryAfter": "7"}),
        ("status_503", {"retryAfter": "7"}),
        ("status_503", {"retryAfter": None}),
        ("status_401", {}),
        ("status_403", {}),
        ("status_404_html", {}),
    ],
)
def test_a_connection_fault_burns_no_attempt_and_the_edit_waits(engine, kind, details):
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.sandbox.script(kind, **details)
    engine.send()
    row = engine.row(row)
    assert (row.state, row.attempts, row.exposed) == (State.QUEUED, 0, False)
    assert row.not_before is not None
    assert outcomes(row) == ["fault"]
    assert engine.applied(row) == []


def test_a_pems_that_is_not_there_burns_no_attempt_and_the_connection_rests(engine):
    Connection.objects.update(base_url="http://127.0.0.1:1")
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.send()
    row = engine.row(row)
    assert (row.state, row.attempts) == (State.QUEUED, 0)
    assert engine.connection().held_until > database_now()
    assert "127.0.0.1:1" in engine.connection().held_reason
    assert engine.claim() == []


@pytest.mark.parametrize("url", ["http://exa mple", "ftp://127.0.0.1", "http://"])
def test_an_address_that_is_none_burns_no_attempt(engine, url):
    Connection.objects.update(base_url=url)
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.send()
    assert (engine.state(row), engine.row(row).attempts) == (State.QUEUED, 0)


def test_an_organization_code_that_no_header_can_carry_is_a_fault_and_not_a_crash(engine):
    row = engine.edit(engine.records[0], model="NEW-1")
    type(engine.organization).objects.filter(pk=engine.organization.pk).update(code="里约")
    engine.send()
    assert (engine.state(row), engine.row(row).attempts) == (State.QUEUED, 0)


def test_retry_after_of_a_429_is_honoured_to_the_second_by_all(engine):
    row, other = engine.edit(engine.records[0], model="A"), engine.edit(engine.records[1], model="B")
    engine.sandbox.script("status_429", retryAfter="7")
    first, second = engine.claim()
    before = database_now()
    delivery.deliver(first.delivery_id)
    held = engine.connection().held_until - before
    assert timedelta(seconds=6.9) < held < timedelta(seconds=7.5)
    delivery.deliver(second.delivery_id)
    assert {engine.state(row), engine.state(other)} == {State.QUEUED}, "what was claimed before is handed back"
    assert engine.sandbox.stats()["requests"]["total"] <= 2
    assert engine.claim() == []


def test_a_503_as_a_date_is_honoured_too(engine):
    engine.edit(engine.records[0], model="A")
    engine.sandbox.script("status_503", retryAfter=9, asDate=True)
    engine.send()
    assert engine.connection().held_until - database_now() > timedelta(seconds=6)


# ---------------------------------------------------------------- rejected, busy, drift


@pytest.mark.parametrize(("kind", "code"), [("item_400", "INVALID_REQUEST"), ("item_422", "BUSINESS_RULE")])
def test_a_rejected_edit_is_a_dead_letter_with_what_pems_said(engine, kind, code):
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.sandbox.script(kind)
    engine.send()
    row = engine.row(row)
    assert (row.state, row.dead_reason, row.error_code) == (State.DEAD, DeadReason.REJECTED, code)
    assert row.error_message
    assert row.fingerprint
    assert not row.may_still_land
    assert_invariants(engine.organization)


def test_a_busy_record_burns_an_attempt_and_honours_a_longer_retry_after(engine):
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.sandbox.script("status_423", retryAfter="30")
    before = database_now()
    engine.send()
    row = engine.row(row)
    assert (row.state, row.attempts) == (State.QUEUED, 1)
    assert row.not_before - before > timedelta(seconds=29)


def test_an_item_level_503_burns_an_attempt(engine, one_request):
    row, other = engine.edit(engine.records[0], model="NEW-1"), engine.edit(engine.records[1], model="NEW-2")
    engine.sandbox.script("item_503", pfaId=row.pfa_id)
    engine.send()
    assert (engine.state(row), engine.row(row).attempts, engine.state(other)) == (State.QUEUED, 1, State.CONFIRMED)


def test_busy_until_all_attempts_are_used_up_is_exhausted(engine, one_request):
    row = engine.edit(engine.records[0], model="NEW-1")
    other = engine.edit(engine.records[1], model="NEW-2")
    engine.sandbox.script("item_423", pfaId=row.pfa_id, times=None)
    for _ in range(5):
        engine.skip_waits()
        engine.send()
    row = engine.row(row)
    assert (row.state, row.dead_reason, row.attempts) == (State.DEAD, DeadReason.EXHAUSTED, 4)
    assert not row.may_still_land
    assert engine.state(other) is State.CONFIRMED


def test_a_409_with_another_field_changed_goes_on_without_a_person(engine):
    record = engine.records[0]
    row = engine.edit(record, model="NEW-1")
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    engine.settle()
    row = engine.row(row)
    assert (row.state, row.auto_merged, row.attempts) == (State.CONFIRMED, True, 0)
    assert engine.in_pems(record)["areaSilo"] == "Moved"
    assert engine.in_pems(record)["model"] == "NEW-1"
    assert outcomes(row) == ["drift", "confirmed"]
    assert_applied_once(engine)


def test_a_409_with_the_same_field_changed_asks_a_person(engine):
    record = engine.records[0]
    row = engine.edit(record, model="NEW-1")
    engine.sandbox.edit(record.pfa_id, {"model": "THEIRS"})
    engine.settle()
    conflict = row.conflicts.get()
    assert engine.state(row) is State.CONFLICTED
    assert conflict.fields == [
        {"name": "model", "base": record.fields["model"], "ours": "NEW-1", "theirs": "THEIRS", "group": None}
    ]
    assert conflict.pems_version == record.version + 1
    assert_applied_once(engine)


def test_a_409_with_the_same_value_is_confirmed_without_a_write(engine):
    record = engine.records[0]
    row = engine.edit(record, model="NEW-1")
    engine.sandbox.edit(record.pfa_id, {"model": "NEW-1"})
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert engine.applied(row) == []
    assert_applied_once(engine)


def test_any_drift_under_a_delete_asks_and_an_undisturbed_delete_is_applied(engine):
    calm, moved, done = engine.records[:3]
    rows = [engine.edit(record, isDiscontinued=True) for record in (calm, moved, done)]
    engine.sandbox.edit(moved.pfa_id, {"areaSilo": "Moved"})
    engine.sandbox.edit(done.pfa_id, {"isDiscontinued": True})
    engine.settle()
    assert [engine.state(row) for row in rows] == [State.CONFIRMED, State.CONFLICTED, State.CONFIRMED]
    assert rows[1].conflicts.get().kind == "delete_edited"
    assert [len(engine.applied(row)) for row in rows] == [1, 0, 0]
    assert engine.in_pems(calm)["isDiscontinued"] is True


def test_an_edit_of_a_record_that_vanished_asks(engine):
    record = engine.records[0]
    row = engine.edit(record, model="NEW-1")
    engine.sandbox.remove(record.pfa_id)
    engine.settle()
    assert engine.state(row) is State.CONFLICTED
    assert row.conflicts.get().kind == "edit_deleted"
    assert Record.objects.get(pk=record.pk).deleted_at is not None


def test_a_409_whose_record_cannot_be_read_yet_is_tried_again_and_burns_nothing(engine):
    record = engine.records[0]
    row = engine.edit(record, model="NEW-1")
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    engine.sandbox.script("status_500", operation="GET")
    engine.send()
    assert (engine.state(row), engine.row(row).attempts) == (State.QUEUED, 0)
    engine.settle()
    assert engine.state(row) is State.CONFIRMED


@pytest.mark.parametrize("trouble", [lambda *_, **__: False, None], ids=["no room", "no Redis"])
def test_a_409_without_room_or_redis_to_read_waits_and_burns_nothing(engine, monkeypatch, trouble):
    record = engine.records[0]
    row = engine.edit(record, model="NEW-1")
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    monkeypatch.setattr(Pace, "wait", trouble or redis_is_gone)
    engine.send()
    assert (engine.state(row), engine.row(row).attempts) == (State.QUEUED, 0)
    assert outcomes(row) == ["fault"]


def redis_is_gone(*_, **__):
    raise PaceUnavailableError("the pace cannot be kept without Redis")


def test_a_429_is_settled_though_redis_went_away(engine, monkeypatch):
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.sandbox.script("status_429")
    monkeypatch.setattr(Pace, "hold", redis_is_gone)
    engine.send()
    assert engine.state(row) is State.QUEUED
    assert outcomes(row) == ["fault"]


def test_a_409_of_a_version_that_pems_still_shows_burns_an_attempt(engine):
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.sandbox.script("status_409")
    engine.send()
    assert (engine.state(row), engine.row(row).attempts) == (State.QUEUED, 1)


# ---------------------------------------------------------------- unknown


@pytest.mark.parametrize(
    "kind", ["lost_reply", "reset_before", "truncated", "garbage", "status_500", "status_502", "status_504"]
)
def test_an_outcome_that_cannot_be_known_is_unknown_and_exposed(engine, kind):
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.sandbox.script(kind)
    engine.send()
    row = engine.row(row)
    assert (row.state, row.exposed, row.attempts) == (State.UNKNOWN, True, 0)
    assert row.not_before - row.unknown_since == timedelta(seconds=2)
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert len(engine.applied(row)) == 1
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_a_request_that_takes_too_long_in_total_is_unknown(engine, settings):
    settings.PEMS_REQUEST_TIMEOUT = 0.4
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.sandbox.script("slow", seconds=1.2)
    engine.send()
    assert engine.state(row) is State.UNKNOWN


def test_values_that_came_back_different_are_shown_as_adjusted(engine):
    record = engine.records[0]
    row = engine.edit(record, model="NEW-1")
    engine.sandbox.script("adjust")
    engine.send()
    row = engine.row(row)
    assert row.state == State.CONFIRMED
    assert row.adjusted == {"model": engine.in_pems(record)["model"]}
    assert Record.objects.get(pk=record.pk).fields["model"] == engine.in_pems(record)["model"]
    assert not JournalEntry.objects.filter(kind="record_changed", pfa_id=record.pfa_id).exists(), "it is our own write"


def test_a_version_that_grew_by_more_than_one_is_taken_over(engine):
    record = engine.records[0]
    engine.edit(record, model="NEW-1")
    engine.sandbox.script("version_jump", n=3)
    engine.send()
    assert Record.objects.get(pk=record.pk).version == engine.in_pems(record)["version"] > record.version + 1


# ---------------------------------------------------------------- batches


@pytest.fixture
def one_request(monkeypatch):
    """A claim publishes one request, without the slow pace that would bring it about."""
    monkeypatch.setattr(scheduling, "CLAIM_HORIZON_SECONDS", 0.001)


@pytest.fixture
def batch(engine, one_request):
    """Twelve edits that travel in one request."""
    return [engine.edit(record, model=f"NEW-{number}") for number, record in enumerate(engine.records[:12])]


def test_of_a_batch_with_three_rejected_the_others_are_confirmed(engine, batch):
    engine.sandbox.faults(
        script=[
            {"kind": "item_400", "pfaId": batch[2].pfa_id},
            {"kind": "item_422", "pfaId": batch[5].pfa_id},
            {"kind": "item_423", "pfaId": batch[7].pfa_id},
        ]
    )
    assert engine.send() == 1
    states = [engine.state(row) for row in batch]
    assert [states[2], states[5], states[7]] == [State.DEAD, State.DEAD, State.QUEUED]
    assert states.count(State.CONFIRMED) == 9
    assert_invariants(engine.organization)


def test_an_item_without_its_result_is_unknown_and_proven_alone(engine, batch):
    engine.sandbox.script("batch_missing_result", pfaId=batch[3].pfa_id)
    engine.send()
    assert [row.pfa_id for row in batch if engine.state(row) is State.UNKNOWN] == [batch[3].pfa_id]
    engine.settle()
    assert engine.state(batch[3]) is State.CONFIRMED
    assert_applied_once(engine)


def test_of_a_broken_batch_any_prefix_may_have_been_applied(engine, batch):
    engine.sandbox.script("batch_partial", n=5)
    engine.send()
    assert {engine.state(row) for row in batch} == {State.UNKNOWN}
    reads = engine.sandbox.stats()["requests"]["total"]
    engine.prove()
    assert [engine.state(row) for row in batch].count(State.CONFIRMED) == 5
    assert engine.sandbox.stats()["requests"]["total"] - reads <= 1 + 7, "one list, then single reads for the rest"
    engine.settle()
    assert {engine.state(row) for row in batch} == {State.CONFIRMED}
    assert_applied_once(engine)


def test_a_batch_refused_as_a_whole_is_split_in_half_down_to_singles(engine, batch):
    engine.sandbox.script("status_400", operation="BATCH", times=None)
    for _ in range(40):
        engine.skip_waits()
        if not engine.send():
            break
    sizes = sorted(set(Attempt.objects.values_list("batch_of", flat=True)), reverse=True)
    assert sizes[0] == 12
    assert sizes[-1] == 1
    assert {engine.state(row) for row in batch} == {State.CONFIRMED}
    assert all(engine.row(row).attempts == 0 for row in batch)
    assert_applied_once(engine)


def test_an_absent_batch_call_is_remembered_for_an_hour_and_edits_go_singly(engine, batch):
    engine.sandbox.faults(switches=["batch_absent"])
    before = database_now()
    engine.settle(rounds=40)
    assert {engine.state(row) for row in batch} == {State.CONFIRMED}
    until = engine.connection().batch_absent_until - before
    assert timedelta(minutes=59) < until < timedelta(minutes=61)
    assert Attempt.objects.filter(batch_of__gt=1).count() == 12, "the batch call was tried once"
    Connection.objects.update(batch_absent_until=database_now() - timedelta(seconds=1))
    engine.edit(engine.records[0], model="X")
    engine.edit(engine.records[1], model="Y")
    assert len(engine.claim()) == 1, "an hour later it is tried again"


def test_a_request_carries_at_most_900_kilobytes(engine, batch, monkeypatch):
    monkeypatch.setattr(delivery, "BODY_LIMIT_BYTES", 900)
    claim = engine.claim()[0]
    delivery.deliver(claim.delivery_id)
    sent = [row for row in batch if engine.state(row) is State.CONFIRMED]
    assert 1 <= len(sent) < 6
    assert {engine.state(row) for row in batch if row not in sent} == {State.QUEUED}
    assert not Attempt.objects.exclude(modification__in=sent).exists(), "what did not fit has no attempt"
    assert delivery.BODY_LIMIT_BYTES < 900_001


# ---------------------------------------------------------------- keys


def test_an_identical_resend_has_the_same_key_and_a_rebased_one_a_new_key(engine):
    same, rebased = engine.edit(engine.records[0], model="A"), engine.edit(engine.records[1], model="B")
    engine.sandbox.faults(script=[{"kind": "reset_before", "pfaId": same.pfa_id}])
    engine.sandbox.edit(rebased.pfa_id, {"areaSilo": "Moved"})
    engine.settle()
    keys = {
        row.pk: list(row.ledger.order_by("epoch").values_list("idempotency_key", flat=True)) for row in (same, rebased)
    }
    assert len(keys[same.pk]) == 2
    assert len(set(keys[same.pk])) == 1
    assert len(set(keys[rebased.pk])) == len(keys[rebased.pk]) == 2
    assert_applied_once(engine)


def test_a_delete_has_a_key_too(engine):
    record = engine.records[0]
    row = engine.edit(record, isDiscontinued=True)
    engine.sandbox.script("lost_reply")
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert engine.applied(row)[0]["idempotencyKey"] == str(row.ledger.first().idempotency_key)


# ---------------------------------------------------------------- messages and defects


def test_a_message_delivered_twice_sends_once(engine):
    row = engine.edit(engine.records[0], model="NEW-1")
    (claim,) = engine.claim()
    delivery.deliver(claim.delivery_id)
    delivery.deliver(claim.delivery_id)
    assert len(engine.applied(row)) == 1
    assert Attempt.objects.filter(modification=row).count() == 1


def test_a_message_for_a_claim_that_is_gone_does_nothing(engine):
    row = engine.edit(engine.records[0], model="NEW-1")
    (claim,) = engine.claim()
    Modification.objects.update(lease_until=database_now() - timedelta(seconds=1))
    engine.expire_leases()
    delivery.deliver(claim.delivery_id)
    assert engine.state(row) is State.QUEUED
    assert engine.applied(row) == []


def test_a_delivery_that_raises_leaves_rows_that_their_lease_frees(engine, monkeypatch):
    """An exception nobody expected: nothing is stuck, and what may have been sent is proven first."""
    row = engine.edit(engine.records[0], model="NEW-1")
    (claim,) = engine.claim()
    with monkeypatch.context() as patched:
        patched.setattr(delivery, "notes_of", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            delivery.deliver(claim.delivery_id)
    assert engine.state(row) is State.SENDING
    engine.expire_leases()
    assert engine.state(row) is State.UNKNOWN
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert len(engine.applied(row)) == 1


def test_without_redis_nothing_is_sent_and_nothing_is_burnt(engine, monkeypatch):
    row = engine.edit(engine.records[0], model="NEW-1")
    gone = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))
    before = engine.sandbox.stats()["requests"]["total"]
    monkeypatch.setattr(delivery, "pace_for", lambda _: Pace(gone, connection="demo", requests_per_second=10))
    engine.send()
    row = engine.row(row)
    assert (row.state, row.attempts, row.ledger.count()) == (State.QUEUED, 0, 0)
    assert engine.sandbox.stats()["requests"]["total"] == before


def test_redis_gone_between_start_and_sending_hands_the_rows_back(engine, monkeypatch):
    row = engine.edit(engine.records[0], model="NEW-1")
    monkeypatch.setattr(Pace, "enter", redis_is_gone)
    engine.send()
    assert engine.state(row) is State.QUEUED
    assert outcomes(row) == ["not_sent"]
    assert engine.applied(row) == []


def test_a_slot_that_was_missed_is_reserved_anew(engine, monkeypatch):
    row = engine.edit(engine.records[0], model="NEW-1")
    enter, tries = Pace.enter, []

    def missed_once(pace, slot):
        tries.append(slot)
        return len(tries) > 1 and enter(pace, slot)

    monkeypatch.setattr(Pace, "enter", missed_once)
    engine.send()
    assert engine.state(row) is State.CONFIRMED
    assert len(tries) == 2


@pytest.mark.timeout(60)
def test_a_slow_database_does_not_miss_slot_after_slot(engine, batch):
    """Whatever is done between slots, each must be reachable: this went on for ever where it took 15 ms."""

    def slowly(execute, *args):
        time.sleep(0.02)
        return execute(*args)

    with database.execute_wrapper(slowly):
        engine.send()
    assert {engine.state(row) for row in batch} == {State.CONFIRMED}


def test_the_lease_covers_the_search_for_a_later_slot(engine, monkeypatch):
    row = engine.edit(engine.records[0], model="NEW-1")
    leases = []

    def look(pace, slot, *, patience_seconds):
        fresh = engine.row(row)
        leases.append((fresh.lease_until - fresh.started_at).total_seconds() - patience_seconds)
        return False

    monkeypatch.setattr(Pace, "enter_or_later", look)
    engine.send()
    assert leases[0] > settings.PEMS_REQUEST_TIMEOUT, (
        "a request sent at the end of the patience still ends within the lease"
    )


def test_when_the_pace_has_no_room_rows_go_back_unsent(engine):
    row = engine.edit(engine.records[0], model="NEW-1")
    connect.pace_for(engine.connection()).hold(20)
    engine.send()
    assert (engine.state(row), engine.row(row).ledger.count()) == (State.QUEUED, 0)
    assert engine.connection().held_until > database_now(), "nothing need be claimed before"


def test_when_the_pace_has_room_again_in_a_moment_the_connection_need_not_rest(engine):
    row = engine.edit(engine.records[0], model="NEW-1")
    connect.pace_for(engine.connection()).hold(1.2)
    engine.send()
    assert engine.state(row) is State.QUEUED
    assert engine.connection().held_until is None


def test_a_record_that_vanished_between_the_409_and_the_read_asks(engine):
    record = engine.records[0]
    row = engine.edit(record, model="NEW-1")
    engine.sandbox.remove(record.pfa_id)
    engine.sandbox.script("status_409")
    engine.send()
    assert engine.state(row) is State.CONFLICTED
    assert row.conflicts.get().kind == "edit_deleted"


def test_when_the_pace_fills_up_after_the_start_rows_go_back_unsent(engine, monkeypatch):
    row = engine.edit(engine.records[0], model="NEW-1")
    pace = connect.pace_for(engine.connection())

    def held_meanwhile(self, slot):
        pace.hold(20)
        return False

    monkeypatch.setattr(Pace, "enter", held_meanwhile)
    engine.send()
    assert engine.state(row) is State.QUEUED
    assert outcomes(row) == ["not_sent"]


def test_a_lost_bell_is_no_error(monkeypatch):
    def gone(*_, **__):
        raise redis.ConnectionError

    monkeypatch.setattr(dispatch.current_app, "send_task", gone)
    dispatch.ring(1)


def test_what_was_paused_after_the_claim_is_handed_back(engine):
    row = engine.edit(engine.records[0], model="NEW-1")
    (claim,) = engine.claim()
    engine.organization.paused_at = database_now()
    engine.organization.save()
    delivery.deliver(claim.delivery_id)
    assert engine.state(row) is State.QUEUED
    assert engine.applied(row) == []


@pytest.mark.parametrize("reason", ["", 'Überholt; größer & <besser> 🚜 "q" 100%?#', "a\nb"])
def test_reasons_travel_as_they_were_typed_also_in_an_address(engine, reason):
    edited, deleted = engine.records[:2]
    rows = [engine.edit(edited, model="NEW-1"), engine.edit(deleted, isDiscontinued=True)]
    Modification.objects.update(reason=reason)
    engine.settle()
    assert {engine.state(row) for row in rows} == {State.CONFIRMED}
    assert [engine.applied(row)[0]["changeReason"] for row in rows] == [reason, reason]
