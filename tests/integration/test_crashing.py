"""Expired leases and poison, step by step; tests/acceptance kills real workers (D3, D4, D7)."""

from datetime import timedelta

import pytest

from pems_sync import crashpoints, delivery, scheduling
from pems_sync.client.base import Busy
from pems_sync.clock import database_now
from pems_sync.models import Attempt, Modification
from pems_sync.services import sending, settlement
from pems_sync.services.crashing import encoded, return_expired, return_lost
from pems_sync.services.sending import CERTAIN, held_rows, start
from pems_sync.services.settlement import Note
from pems_sync.services.settling import hand_back, settle_refused
from pems_sync.states import DeadReason, State
from tests.cast import make_connection, make_organization, make_record
from tests.invariants import assert_applied_once, assert_invariants


def held(engine, record=None, **changes):
    row = engine.edit(record or engine.records[0], **(changes or {"model": "1"}))
    claim = engine.claim()[0]
    return row, held_rows(claim.delivery_id)


def begin(rows):
    good, writes = encoded(rows)
    return start(good, writes, total_seconds=30)


def test_a_lease_that_expired_without_a_start_goes_back_to_the_queue(engine):
    row, _ = held(engine)
    assert engine.expire_leases() == 1
    fresh = engine.row(row)
    assert (fresh.state, fresh.crashes, fresh.exposed, fresh.delivery_id) == (State.QUEUED, 0, False, None)
    engine.settle()
    assert engine.state(row) is State.CONFIRMED


def test_a_lease_that_expired_with_a_start_is_unknown(engine):
    row, rows = held(engine)
    begin(rows)
    engine.expire_leases()
    fresh = engine.row(row)
    assert (fresh.state, fresh.crashes, fresh.exposed, fresh.batch_limit) == (State.UNKNOWN, 1, True, 1)
    assert fresh.not_before <= database_now(), "read back at once"
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_a_lease_that_runs_is_left_alone(engine):
    row, _ = held(engine)
    assert return_expired() == 0
    assert engine.state(row) is State.SENDING


def test_a_start_renews_the_lease_beyond_the_total_deadline_of_the_request(engine):
    row, rows = held(engine)
    begin(rows)
    assert engine.row(row).lease_until - database_now() > timedelta(seconds=30 + sending.LEASE_MARGIN_SECONDS - 1)


def test_a_start_after_the_lease_was_given_away_writes_no_attempt(engine):
    _, rows = held(engine)
    engine.expire_leases()
    engine.claim()
    assert begin(rows) == {}
    assert Attempt.objects.count() == 0


def test_of_a_batch_only_the_rows_still_held_are_started(engine, monkeypatch):
    monkeypatch.setattr(scheduling, "CLAIM_HORIZON_SECONDS", 0.001)
    lost, kept = engine.edit(engine.records[0], model="1"), engine.edit(engine.records[1], model="1")
    (claim,) = engine.claim()
    rows = held_rows(claim.delivery_id)
    Modification.objects.filter(pk=lost.pk).update(lease_until=database_now() - timedelta(seconds=1))
    return_expired()
    assert set(begin(rows)) == {kept.pk}


def test_a_stale_finish_changes_nothing(engine):
    """A slow worker wakes after its lease was given away: what it says is counted and ignored (I5)."""
    row, rows = held(engine)
    attempts = begin(rows)
    engine.expire_leases()
    before = engine.row(row)
    settle_refused([(rows[0], Busy("late"))], {row.pk: Note(attempts[row.pk])})
    hand_back(rows, why="late")
    after = engine.row(row)
    assert (after.state, after.attempts, after.lease_epoch) == (State.UNKNOWN, before.attempts, before.lease_epoch)
    assert before.lease_epoch == rows[0].lease_epoch + 1, "the lease is fenced off"


def test_a_worker_that_lost_a_child_tells_so_and_nothing_waits_for_the_lease(engine):
    row, rows = held(engine)
    begin(rows)
    assert return_lost(rows[0].delivery_id) == 1
    fresh = engine.row(row)
    assert (fresh.state, fresh.exposed, fresh.batch_limit, fresh.crashes) == (State.UNKNOWN, True, 1, CERTAIN)
    assert return_lost(rows[0].delivery_id) == 0, "told twice"
    engine.settle()
    assert engine.state(row) is State.CONFIRMED


@pytest.mark.parametrize(
    ("told", "times", "state"), [(True, 2, State.DEAD), (False, 3, State.QUEUED), (False, 4, State.DEAD)]
)
def test_two_lost_children_quarantine_an_edit_but_not_two_dead_workers(engine, told, times, state):
    """D7: a worker that dies altogether may have died of anything, so that weighs half."""
    row = engine.edit(engine.records[0], model="1")
    for _ in range(times):
        engine.skip_waits()
        delivery_id = engine.claim()[0].delivery_id
        begin(held_rows(delivery_id))
        _ = return_lost(delivery_id) if told else engine.expire_leases()
        engine.prove()
    fresh = engine.row(row)
    assert (fresh.state, fresh.dead_reason) == (state, DeadReason.POISON if state is State.DEAD else None)


def test_the_second_holder_of_a_message_cannot_hand_back_what_the_first_one_started(engine):
    """The same message twice: both read the claim, one starts, the other finds no room in the pace."""
    row, first = held(engine)
    second = held_rows(first[0].delivery_id)
    begin(first)
    hand_back(second, why="the pace has no room yet")
    assert engine.state(row) is State.SENDING
    assert begin(second) == {}
    hand_back(first, why="the first one may")
    assert engine.state(row) is State.QUEUED


def test_an_edit_that_cannot_be_encoded_is_quarantined_at_the_second_time_and_takes_nobody_along(engine, monkeypatch):
    monkeypatch.setattr(scheduling, "CLAIM_HORIZON_SECONDS", 0.001)
    rows = [engine.edit(record, model="1") for record in engine.records[:3]]
    Modification.objects.filter(pk=rows[1].pk).update(changes={"nope": "1"})
    engine.send()
    assert [engine.state(row) for row in rows] == [State.CONFIRMED, State.QUEUED, State.CONFIRMED]
    assert engine.row(rows[1]).batch_limit == 1
    engine.settle()
    poison = engine.row(rows[1])
    assert (poison.state, poison.dead_reason, poison.crashes, poison.attempts) == (State.DEAD, DeadReason.POISON, 4, 0)
    assert (poison.is_head, poison.may_still_land) == (True, False)
    assert_invariants(engine.organization)


@pytest.mark.parametrize("changes", [{"monthlyRate": "much"}, {"model": 1, "monthlyRate": {}}, {"nope": None}])
def test_whatever_stands_in_the_changes_the_others_are_sent(engine, changes, monkeypatch):
    bad, good = engine.edit(engine.records[0], model="1"), engine.edit(engine.records[1], model="1")
    Modification.objects.filter(pk=bad.pk).update(changes=changes)
    engine.settle()
    assert (engine.row(bad).dead_reason, engine.state(good)) == (DeadReason.POISON, State.CONFIRMED)


def test_an_edit_whose_workers_keep_dying_is_quarantined_in_the_end_and_may_still_land(engine):
    row, rows = held(engine)
    for _ in range(sending.QUARANTINE_AT):
        begin(rows)
        engine.expire_leases()
        if engine.state(row) is State.DEAD:
            break
        engine.prove()
        Modification.objects.filter(pk=row.pk).update(attempts=0)  # they would be used up before
        engine.skip_waits()
        rows = held_rows(engine.claim()[0].delivery_id)
    poison = engine.row(row)
    assert (poison.dead_reason, poison.may_still_land, poison.is_head) == (DeadReason.POISON, True, True)
    assert poison.crashes == sending.QUARANTINE_AT
    assert_invariants(engine.organization)


def test_rows_of_several_connections_are_returned_together(engine, cast):
    row, _ = held(engine)
    other = make_organization(make_connection(slug="other"), "org-other", "OTHER")
    record = make_record(other)
    now = database_now()
    Modification.objects.create(
        organization=other, record=record, pfa_id=record.pfa_id, author=cast.planner, authorised_by=cast.planner, changes={},
        base={}, base_version=4, expected_version=4, state=State.SENDING, is_head=True, saved_at=now, committed_at=now,
        queued_at=now, rank_at=now, lease_until=now, delivery_id=row.pk, lease_epoch=1,
    )  # fmt: skip
    assert engine.expire_leases() == 2
    assert set(Modification.objects.values_list("state", flat=True)) == {State.QUEUED}


def test_a_hundred_expired_leases_are_returned_in_bounded_transactions(engine, monkeypatch):
    monkeypatch.setattr(settlement, "MOST_ENTRIES", 12)
    for record in engine.records[:9]:
        engine.edit(record, model="1")
    engine.claim()
    assert engine.expire_leases() == 9
    assert set(Modification.objects.values_list("state", flat=True)) == {State.QUEUED}


def test_no_worker_is_taken_for_another(monkeypatch):
    first = sending.worker_identity()
    assert sending.worker_identity() == first
    monkeypatch.setattr(sending, "_identity", (0, ""))
    assert sending.worker_identity() != first


def test_the_boundaries_are_passed_in_the_order_in_which_they_are_named(engine, monkeypatch):
    passed = []
    monkeypatch.setattr(crashpoints, "reached", lambda point, *_: passed.append(point))
    row = engine.edit(engine.records[0], model="1")
    claims = []
    monkeypatch.setattr(scheduling.dispatch, "deliver", lambda delivery_id, shown: claims.append(delivery_id))
    scheduling.pump(engine.organization.connection_id)
    delivery.deliver(claims[0])
    assert engine.state(row) is State.CONFIRMED
    expected = [point for point in crashpoints.DELIVERY if point != "task_received"]
    assert [point for point in passed if point in expected] == expected
