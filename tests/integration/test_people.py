"""What people decide about a committed modification: withdraw, retry, discard, fix; pause and resume."""

from datetime import timedelta

import pytest

from pems_sync.clock import database_now
from pems_sync.errors import IllegalTransitionError
from pems_sync.models import Connection, JournalEntry, Modification, Organization
from pems_sync.services import people
from pems_sync.services.people import (
    discard_dead_letters,
    replay_dead_letters,
    retry_modification,
    withdraw_modification,
)
from pems_sync.services.reviving import dead_letters, revive
from pems_sync.states import DeadReason, State
from tests.invariants import assert_applied_once, assert_invariants


def dead(engine, record=None, kind="item_422", **changes):
    row = engine.edit(record or engine.records[0], **(changes or {"model": "1"}))
    engine.sandbox.script(kind)
    engine.send()
    assert engine.state(row) is State.DEAD
    return engine.row(row)


def test_a_queued_retrying_failed_or_conflicted_edit_can_be_withdrawn(engine):
    queued = engine.edit(engine.records[0], model="1")
    failed = (
        dead(engine, engine.records[1])
        if withdraw_modification(membership=engine.member(), modification=queued)
        else None
    )
    retrying = engine.edit(engine.records[2], model="1")
    engine.sandbox.script("item_423")
    engine.send()
    clashing = engine.edit(engine.records[3], model="1")
    engine.sandbox.edit(clashing.pfa_id, {"model": "9"})
    engine.pull()
    for row in (failed, retrying, clashing):
        withdraw_modification(membership=engine.member(), modification=row, reason="no longer needed")
    assert {engine.state(row) for row in (queued, failed, retrying, clashing)} == {State.WITHDRAWN}
    conflict = clashing.conflicts.get()
    assert (conflict.resolution, conflict.resolved_at is not None) == ("withdrawn", True)
    assert engine.sandbox.audit(queued.pfa_id) == []
    assert_invariants(engine.organization)


def test_what_is_being_sent_or_final_cannot_be_withdrawn_or_retried(engine):
    row = engine.edit(engine.records[0], model="1")
    engine.claim()
    for act in (withdraw_modification, retry_modification):
        with pytest.raises(IllegalTransitionError, match="sending"):
            act(membership=engine.member(), modification=row)
    engine.expire_leases()
    engine.settle()
    for act in (withdraw_modification, retry_modification):
        with pytest.raises(IllegalTransitionError, match="confirmed is final"):
            act(membership=engine.member(), modification=row)


def test_a_queued_edit_that_waits_for_nothing_has_nothing_to_retry(engine):
    with pytest.raises(IllegalTransitionError):
        retry_modification(membership=engine.member(), modification=engine.edit(engine.records[0], model="1"))


def test_retry_of_a_waiting_edit_sends_it_now(engine):
    row = engine.edit(engine.records[0], model="1")
    engine.sandbox.script("item_423")
    engine.send()
    assert engine.claim() == []
    retry_modification(membership=engine.member(), modification=row)
    assert engine.send() == 1
    assert engine.state(row) is State.CONFIRMED


def test_retry_of_a_dead_letter_counts_anew_in_the_name_of_who_decided(engine, cast):
    row = dead(engine)
    retry_modification(membership=engine.member(cast.lead), modification=row)
    row = engine.row(row)
    assert (row.state, row.attempts, row.authorised_by, row.error_message) == (State.QUEUED, 0, cast.lead, "")
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert engine.applied(row)[0]["modifiedBy"] == "rio-lead"
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_a_replayed_intent_is_rebased_on_the_present_state(engine):
    row = dead(engine)
    engine.sandbox.edit(row.pfa_id, {"areaSilo": "Moved"})
    engine.pull()
    retry_modification(membership=engine.member(), modification=row)
    assert engine.row(row).expected_version == row.expected_version + 1
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert engine.row(row).ledger.count() == 2, "no 409 was needed"


def test_a_replayed_intent_whose_field_moved_meanwhile_asks(engine):
    row, before = dead(engine), engine.records[0].fields["model"]
    engine.sandbox.edit(row.pfa_id, {"model": "9"})
    engine.pull()
    retry_modification(membership=engine.member(), modification=row)
    assert engine.state(row) is State.CONFLICTED
    assert row.conflicts.get().fields[0]["base"] == before


def confirmed(engine, record, *, by=None, **changes):
    row = engine.edit(record, by=by, **changes)
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    return row


def test_a_replayed_intent_leaves_out_what_later_edits_have_settled_and_says_so(engine, cast):
    """D14: sent whole, it would take a newer decision back; asked for, a person would decide twice."""
    record = engine.records[0]
    row = dead(engine, record, model="1", areaSilo="North")
    confirmed(engine, record, by=cast.second, model="2")
    retry_modification(membership=engine.member(), modification=row)
    assert engine.row(row).changes == {"areaSilo": "North"}
    assert set(engine.row(row).base) == {"areaSilo", "isDiscontinued"}
    entry = JournalEntry.objects.filter(kind="modification_queued", modification_id=row.pk).latest("position")
    assert entry.reason == "retried, the rest alone: later edits of model were confirmed"
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert (engine.in_pems(record)["model"], engine.in_pems(record)["areaSilo"]) == ("2", "North")
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_a_replayed_intent_of_which_nothing_is_left_is_withdrawn_and_reported(engine):
    rows = [dead(engine, record) for record in engine.records[:2]]
    confirmed(engine, engine.records[0], model="2")
    mine = dead_letters(engine.member())
    revived = revive(membership=engine.member(), found=mine)
    assert [row.pk for row in revived.queued] == [rows[1].pk]
    assert revived.rejected[rows[0].pk][0]["code"] == "SUPERSEDED"
    engine.settle()
    assert [engine.state(row) for row in rows] == [State.WITHDRAWN, State.CONFIRMED]
    assert engine.in_pems(engine.records[0])["model"] == "2"
    assert_invariants(engine.organization)


def test_an_edit_confirmed_before_the_dead_letter_was_committed_settles_nothing(engine):
    record = engine.records[0]
    confirmed(engine, record, model="0")
    row = dead(engine, record, model="1")
    retry_modification(membership=engine.member(), modification=row)
    engine.settle()
    assert engine.in_pems(record)["model"] == "1"


def test_what_is_corrected_now_is_meant_now(engine):
    record = engine.records[0]
    row = dead(engine, record, model="1", areaSilo="North")
    confirmed(engine, record, model="2", areaSilo="South")
    replay_dead_letters(membership=engine.member(), modification_ids=[row.pk], changes={"model": "3"})
    assert engine.row(row).changes == {"model": "3"}


def test_one_that_may_still_land_leaves_out_what_is_settled_once_it_was_read_back(engine):
    record = engine.records[0]
    row = dead(engine, record, model="1", areaSilo="North")
    Modification.objects.filter(pk=row.pk).update(may_still_land=True, exposed=True)
    confirmed(engine, record, model="2")
    retry_modification(membership=engine.member(), modification=engine.row(row))
    engine.settle()
    assert engine.state(row) in (State.CONFIRMED, State.CONFLICTED)
    assert engine.in_pems(record)["model"] == "2", "the newer decision stands"


def test_several_are_replayed_in_the_order_in_which_they_were_queued(engine):
    rows = [dead(engine, record) for record in engine.records[:3]]
    done = engine.edit(engine.records[4], model="1")
    replayed = replay_dead_letters(membership=engine.member(), modification_ids=[row.pk for row in (*rows[::-1], done)])
    assert sorted(row.pk for row in replayed) == sorted(row.pk for row in rows)
    queued = JournalEntry.objects.filter(kind="modification_queued", reason="retried").order_by("position")
    assert [entry.modification_id for entry in queued] == [row.pk for row in rows]


def test_a_fix_goes_out_with_a_new_key_and_a_base_for_what_it_adds(engine):
    row = dead(engine)
    replay_dead_letters(membership=engine.member(), modification_ids=[row.pk], changes={"monthlyRate": "77.00"})
    fixed = engine.row(row)
    assert fixed.changes == {"model": "1", "monthlyRate": "77.00"}
    assert set(fixed.base) == {"model", "isDiscontinued", "source", "monthlyRate", "purchasePrice"}
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert len(set(row.ledger.values_list("idempotency_key", flat=True))) == 2
    assert_applied_once(engine)


def test_discarded_dead_letters_are_withdrawn_with_their_reason_and_others_are_left_alone(engine):
    row, other = dead(engine), engine.edit(engine.records[1], model="1")
    rows = discard_dead_letters(membership=engine.member(), modification_ids=[row.pk, other.pk], reason="obsolete")
    assert [each.pk for each in rows] == [row.pk]
    assert [engine.state(each) for each in (row, other)] == [State.WITHDRAWN, State.QUEUED]
    assert JournalEntry.objects.get(kind="modification_withdrawn").reason == "obsolete"
    assert_invariants(engine.organization)


def test_dead_letters_of_one_cause_share_a_fingerprint_and_of_another_do_not(engine):
    rows = [dead(engine, record) for record in engine.records[:2]]
    other = dead(engine, engine.records[2], kind="item_400")
    assert rows[0].fingerprint == rows[1].fingerprint != other.fingerprint


def test_pause_stops_sending_and_resume_lifts_it_and_the_connections_own_pause(engine, cast):
    row = engine.edit(engine.records[0], model="1")
    people.pause(organization=engine.organization, user=cast.admin, reason="month end")
    assert engine.send() == 0
    later = engine.edit(engine.records[1], model="1")
    Connection.objects.update(paused_at=database_now(), held_until=database_now() + timedelta(hours=1))
    people.resume(organization=engine.organization, user=cast.admin)
    connection = engine.connection()
    assert (connection.paused_at, connection.held_until) == (None, None)
    assert Organization.objects.get(pk=engine.organization.pk).paused_at is None
    engine.settle()
    assert {engine.state(each) for each in (row, later)} == {State.CONFIRMED}
    kinds = JournalEntry.objects.filter(wire_type__startswith="QUEUE_").values_list("wire_type", "reason")
    assert list(kinds) == [("QUEUE_PAUSED", "month end"), ("QUEUE_RESUMED", "")]


def test_exhausted_is_a_reason_of_its_own(engine, settings):
    settings.WRITE_SYNC_MAX_RETRIES = 0
    row = engine.edit(engine.records[0], model="1")
    engine.sandbox.script("item_423")
    engine.send()
    assert engine.row(row).dead_reason == DeadReason.EXHAUSTED
    assert Modification.objects.committed().count() == 1


def test_many_dead_letters_are_sent_again_a_few_each_second(engine, monkeypatch):
    monkeypatch.setattr(people, "REPLAYED_PER_SECOND", 2)
    engine.sandbox.faults(rates={"item_422": 1.0})
    rows = [engine.edit(record, model="1") for record in engine.records[:5]]
    engine.settle()
    engine.sandbox.clear_faults()
    people.replay_dead_letters(membership=engine.member(), modification_ids=[row.pk for row in reversed(rows)])
    waits = [engine.row(row).not_before for row in rows]
    assert waits[:2] == [None, None]
    assert waits[2] == waits[3] < waits[4]
    engine.settle()
    assert {engine.state(row) for row in rows} == {State.CONFIRMED}
