"""Unknown outcomes, against a real PEMS: read back, prove, and only then go on (PROTOCOL.md, Unknown; D1)."""

import time
from datetime import timedelta

import pytest

from pems_sync import proof, sweeping
from pems_sync.client import secrets
from pems_sync.client.pace import Pace
from pems_sync.clock import database_now
from pems_sync.drift import ConflictKind
from pems_sync.errors import IllegalTransitionError
from pems_sync.models import Attempt, AttemptOutcome, Connection, JournalEntry, Modification, Record
from pems_sync.services import proving
from pems_sync.services.people import (
    discard_dead_letters,
    replay_dead_letters,
    retry_modification,
    withdraw_modification,
)
from pems_sync.states import DeadReason, State
from tests.cast import make_connection, make_organization, make_record
from tests.invariants import assert_applied_once, assert_invariants


def unknown(engine, record=None, *, kind="lost_reply", **changes):
    """An edit whose outcome is unknown."""
    record = record or engine.records[0]
    row = engine.edit(record, **(changes or {"model": "NEW-1"}))
    engine.sandbox.script(kind, pfaId=record.pfa_id)
    engine.send()
    engine.forget_requests()
    assert engine.state(row) is State.UNKNOWN
    return engine.row(row)


def ledger(row):
    return list(AttemptOutcome.objects.filter(attempt__modification=row).order_by("pk").values_list("kind", flat=True))


def test_landed_is_confirmed_by_proof_and_not_sent_again(engine):
    row = unknown(engine)
    engine.prove()
    row = engine.row(row)
    assert (row.state, row.exposed, row.attempts) == (State.CONFIRMED, False, 0)
    assert Attempt.objects.filter(modification=row).count() == 1
    assert ledger(row) == ["unknown", "landed"]
    assert Record.objects.get(pk=row.record_id).fields["model"] == "NEW-1"


def test_a_write_proven_landed_is_not_announced_as_a_foreign_change(engine):
    row = unknown(engine)
    engine.prove()
    assert not JournalEntry.objects.filter(pfa_id=row.pfa_id, wire_type="RECORD_CHANGED").exists()


def test_where_it_was_one_clean_read_is_enough_to_resend_the_same_bytes(engine):
    row = unknown(engine, kind="reset_before")
    engine.prove()
    waiting = engine.row(row)
    assert (waiting.state, waiting.exposed, waiting.attempts) == (State.QUEUED, True, 1)
    engine.settle()
    first, second = Attempt.objects.filter(modification=row).order_by("epoch")
    assert (first.request, first.version_sent, first.idempotency_key) == (
        second.request,
        second.version_sent,
        second.idempotency_key,
    )
    assert engine.state(row) is State.CONFIRMED
    assert len(engine.applied(row)) == 1


@pytest.mark.parametrize("switch", [[], ["idempotency_ignored"]])
def test_a_first_request_that_lands_late_and_its_resend_apply_once(engine, switch):
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.sandbox.faults(script=[{"kind": "late_apply", "seconds": 0.5}], switches=switch)
    engine.send()
    engine.prove()
    assert engine.state(row) is State.QUEUED
    time.sleep(0.7)
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert len(engine.applied(row)) == 1
    assert_applied_once(engine)


def test_another_persons_write_at_b_plus_1_is_drift_and_goes_on(engine):
    row = unknown(engine, kind="reset_before")
    engine.sandbox.edit(row.pfa_id, {"areaSilo": "Moved"})
    engine.prove()
    waiting = engine.row(row)
    assert (waiting.state, waiting.exposed, waiting.expected_version) == (State.QUEUED, False, row.expected_version + 1)
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert engine.in_pems(engine.records[0])["areaSilo"] == "Moved"
    assert_applied_once(engine)


def test_another_persons_write_of_the_same_field_at_b_plus_1_asks(engine):
    row = unknown(engine, kind="reset_before")
    engine.sandbox.edit(row.pfa_id, {"model": "THEIRS"})
    engine.prove()
    assert engine.state(row) is State.CONFLICTED
    assert row.conflicts.get().kind == ConflictKind.EDIT_EDIT


def test_our_planner_may_have_changed_pems_by_hand_so_it_is_overtaken(engine):
    row = unknown(engine, kind="reset_before")
    engine.sandbox.edit(row.pfa_id, {"model": "BY-HAND"}, modified_by="rio-planner")
    engine.settle()
    assert engine.state(row) is State.CONFLICTED
    assert row.conflicts.get().kind == ConflictKind.OVERTAKEN


def test_landed_as_5_and_reverted_in_6_is_never_resent(engine):
    before = engine.records[0].fields["model"]
    row = unknown(engine)
    engine.sandbox.edit(row.pfa_id, {"model": before})
    engine.settle()
    assert engine.state(row) is State.CONFLICTED
    assert row.conflicts.get().kind == ConflictKind.OVERTAKEN
    assert engine.in_pems(engine.records[0])["model"] == before
    assert len(engine.applied(row)) == 1


def test_a_record_that_vanished_meanwhile_asks(engine):
    row = unknown(engine)
    engine.sandbox.remove(row.pfa_id)
    engine.settle()
    assert engine.state(row) is State.CONFLICTED
    assert row.conflicts.get().kind == ConflictKind.EDIT_DELETED


def test_a_delete_is_proven_like_any_other(engine):
    row = unknown(engine, isDiscontinued=True)
    engine.prove()
    assert engine.state(row) is State.CONFIRMED


def test_a_failed_read_proves_nothing_and_the_next_comes_after_10_then_60_then_60_seconds(engine):
    row = unknown(engine)
    engine.sandbox.script("status_500", operation="GET", times=None)
    waits = []
    for _ in range(4):
        engine.prove()
        fresh = engine.row(row)
        assert (fresh.state, fresh.attempts, fresh.lease_until) == (State.UNKNOWN, 0, None)
        waits.append(round((fresh.not_before - database_now()).total_seconds()))
    assert waits == [10, 60, 60, 60]
    assert ledger(row) == ["unknown"] + ["read_failed"] * 4


def test_a_read_that_is_refused_for_its_credentials_pauses_the_connection(engine):
    row = unknown(engine)
    engine.sandbox.script("status_401", operation="GET")
    engine.prove()
    assert engine.state(row) is State.UNKNOWN
    assert engine.connection().paused_at is not None


def test_reads_stop_too_while_a_connection_is_paused_or_rests(engine, monkeypatch):
    unknown(engine)
    engine.skip_waits()
    asked = []
    monkeypatch.setattr(sweeping.dispatch, "prove", lambda ids, shown: asked.append(ids))
    Connection.objects.update(paused_at=database_now())
    sweeping.ask_for_proofs()
    Connection.objects.update(paused_at=None, held_until=database_now() + timedelta(seconds=5))
    sweeping.ask_for_proofs()
    assert asked == []
    Connection.objects.update(held_until=None)
    sweeping.ask_for_proofs()
    assert len(asked) == 1


def test_rows_of_one_lost_batch_are_asked_for_together_and_a_few_at_a_time(engine, monkeypatch):
    for record in engine.records[:7]:
        unknown(engine, record)
    engine.skip_waits()
    Modification.objects.filter(pfa_id__in=[record.pfa_id for record in engine.records[:3]]).update(
        unknown_since=database_now(), not_before=database_now() - timedelta(minutes=1)
    )
    asked = []
    monkeypatch.setattr(sweeping.dispatch, "prove", lambda ids, shown: asked.append(list(ids)))
    sweeping.ask_for_proofs()
    assert len(asked) == sweeping.READS_AT_ONCE
    assert [len(ids) for ids in asked] == [3, 1, 1, 1]
    Modification.objects.filter(pk__in=asked[0]).update(lease_until=database_now() + timedelta(seconds=60))
    asked.clear()
    sweeping.ask_for_proofs()
    assert len(asked) == sweeping.READS_AT_ONCE - 1


def test_a_dead_connection_does_not_keep_others_from_their_proofs(engine, monkeypatch):
    row = unknown(engine)
    dead = make_organization(make_connection(slug="dead"), "org-dead", "DEAD")
    monkeypatch.setattr(sweeping, "PROOFS_AT_ONCE", 1)
    other = make_record(dead)
    engine.skip_waits()
    Modification.objects.filter(pk=row.pk).update(not_before=database_now() - timedelta(seconds=1))
    Modification.objects.create(
        organization=dead, record=other, pfa_id=other.pfa_id, author=row.author, authorised_by=row.author, changes={}, base={},
        base_version=4, expected_version=4, state=State.UNKNOWN, is_head=True, saved_at=database_now(), exposed=True,
        committed_at=database_now(), queued_at=database_now(), rank_at=database_now(), unknown_since=database_now(),
        not_before=database_now() - timedelta(hours=1),
    )  # fmt: skip
    asked = []
    monkeypatch.setattr(sweeping.dispatch, "prove", lambda ids, shown: asked.extend(ids))
    sweeping.ask_for_proofs()
    assert row.pk in asked


def test_without_a_pace_or_credentials_the_proof_is_put_off(engine, monkeypatch):
    row = unknown(engine)
    for name in ("PEMS_USER", "PEMS_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(secrets, "_cached", None)
    engine.prove()
    assert engine.state(row) is State.UNKNOWN
    assert "credentials" in engine.row(row).waits_for
    monkeypatch.setattr(secrets, "_cached", None)


def test_without_room_in_the_pace_nothing_is_proven(engine, monkeypatch):
    rows = [unknown(engine, record) for record in engine.records[:6]]
    monkeypatch.setattr(Pace, "wait", lambda *_, **__: False)
    engine.prove()
    assert {engine.state(row) for row in rows} == {State.UNKNOWN}
    assert "no room" in engine.row(rows[0]).waits_for


def test_a_list_that_cannot_be_read_leaves_the_single_reads(engine):
    rows = [unknown(engine, record) for record in engine.records[:6]]
    engine.sandbox.script("status_500", operation="LIST")
    engine.prove()
    assert {engine.state(row) for row in rows} == {State.CONFIRMED}


def test_two_provers_read_once(engine):
    row = unknown(engine)
    engine.skip_waits()
    assert len(proving.take([row.pk], total_seconds=5)) == 1
    assert proving.take([row.pk], total_seconds=5) == []
    assert proof.prove([row.pk]) == 0


# ---------------------------------------------------------------- exposed


def test_an_exposed_row_takes_no_withdrawal(engine):
    row = unknown(engine, kind="reset_before")
    with pytest.raises(IllegalTransitionError):
        withdraw_modification(membership=engine.member(), modification=row)
    engine.prove()
    assert engine.state(row) is State.QUEUED
    with pytest.raises(IllegalTransitionError, match="may still reach"):
        withdraw_modification(membership=engine.member(), modification=row)


def test_an_exposed_row_takes_no_fold(engine):
    row = unknown(engine, kind="reset_before")
    engine.prove()
    later = engine.edit(engine.records[0], areaSilo="East")
    assert engine.state(row) is State.QUEUED
    assert engine.row(row).changes == {"model": "NEW-1"}
    engine.settle()
    assert [engine.state(each) for each in (row, later)] == [State.CONFIRMED] * 2
    assert_applied_once(engine)


def test_an_exposed_row_is_not_rebased_by_what_inbound_sees(engine):
    """A read of V > b ends the exposure: it is weighed as evidence, never slipped under the first request."""
    row = unknown(engine, kind="reset_before")
    engine.prove()
    engine.sandbox.edit(row.pfa_id, {"areaSilo": "Moved"})
    engine.pull()
    waiting = engine.row(row)
    assert (waiting.exposed, waiting.expected_version) == (False, row.expected_version + 1)
    assert ledger(row) == ["unknown", "not_landed", "not_landed"]
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert_applied_once(engine)


def test_inbound_is_evidence_for_an_unknown_outcome(engine):
    landed, overtaken = unknown(engine, engine.records[0]), unknown(engine, engine.records[1], kind="reset_before")
    engine.sandbox.edit(overtaken.pfa_id, {"model": "BY-HAND"}, modified_by="rio-planner")
    engine.pull()
    assert engine.state(landed) is State.CONFIRMED
    assert engine.state(overtaken) is State.CONFLICTED
    assert_invariants(engine.organization)


def test_a_resend_answered_409_is_judged_like_a_read(engine):
    """The first request was the one that landed; PEMS ignores keys, so the resend is stale."""
    row = engine.edit(engine.records[0], model="NEW-1")
    engine.sandbox.faults(script=[{"kind": "late_apply", "seconds": 0.3}], switches=["idempotency_ignored"])
    engine.send()
    engine.prove()
    time.sleep(0.5)
    engine.skip_waits()
    engine.send()
    assert engine.state(row) is State.CONFIRMED
    assert ledger(row) == ["unknown", "not_landed", "drift", "landed"]


def test_a_resend_rejected_while_exposed_is_a_dead_letter_that_may_still_land(engine):
    row = unknown(engine, kind="reset_before")
    engine.prove()
    engine.sandbox.script("item_422")
    engine.skip_waits()
    engine.send()
    dead = engine.row(row)
    assert (dead.state, dead.dead_reason, dead.may_still_land) == (State.DEAD, DeadReason.REJECTED, True)


# ---------------------------------------------------------------- dead letters that may still land


@pytest.fixture
def dead(engine):
    """All attempts used up while exposed."""
    row = unknown(engine, kind="reset_before")
    engine.sandbox.script("reset_before", operation="PUT", times=None)
    for _ in range(12):
        engine.prove()
        engine.skip_waits()
        engine.send()
        if engine.state(row) is State.DEAD:
            break
    engine.sandbox.clear_faults()
    row = engine.row(row)
    assert (row.state, row.dead_reason, row.may_still_land) == (State.DEAD, DeadReason.EXHAUSTED, True)
    assert (row.attempts, row.ledger.count()) == (4, 4)
    return row


def test_retry_reads_back_first_and_resends_what_has_not_landed(engine, dead):
    retry_modification(membership=engine.member(), modification=dead)
    waiting = engine.row(dead)
    assert (waiting.state, waiting.read_back_for) == (State.DEAD, "retry")
    assert engine.send() == 0
    engine.prove()
    assert (engine.state(dead), engine.row(dead).exposed) == (State.QUEUED, True)
    engine.settle()
    assert engine.state(dead) is State.CONFIRMED
    assert len(set(dead.ledger.values_list("idempotency_key", flat=True))) == 1, "byte for byte the same"
    assert len(engine.applied(dead)) == 1
    assert_invariants(engine.organization)


def test_retry_of_what_landed_after_all_is_confirmed_without_a_resend(engine, dead):
    engine.sandbox.edit(dead.pfa_id, dict(dead.changes), modified_by="rio-planner")
    retry_modification(membership=engine.member(), modification=dead)
    engine.prove()
    assert engine.state(dead) is State.CONFIRMED
    assert dead.ledger.count() == 4


def test_retry_of_what_was_passed_by_another_write_is_rebased(engine, dead):
    engine.sandbox.edit(dead.pfa_id, {"areaSilo": "Moved"})
    retry_modification(membership=engine.member(), modification=dead)
    engine.prove()
    assert (engine.state(dead), engine.row(dead).exposed) == (State.QUEUED, False)
    engine.settle()
    assert engine.state(dead) is State.CONFIRMED
    assert_applied_once(engine)


def test_retry_of_what_was_overtaken_asks(engine, dead):
    engine.sandbox.edit(dead.pfa_id, {"model": "BY-HAND"}, modified_by="rio-planner")
    retry_modification(membership=engine.member(), modification=dead)
    engine.settle()
    row = engine.row(dead)
    assert (row.state, row.is_head, row.may_still_land) == (State.CONFLICTED, True, False)
    assert_invariants(engine.organization)


@pytest.mark.parametrize(
    ("meanwhile", "state"),
    [({}, State.WITHDRAWN), ({"areaSilo": "Moved"}, State.WITHDRAWN), ({"model": "NEW-1"}, State.CONFIRMED)],
)
def test_discard_reads_back_first(engine, dead, meanwhile, state):
    if meanwhile:
        engine.sandbox.edit(dead.pfa_id, meanwhile)
    discard_dead_letters(membership=engine.member(), modification_ids=[dead.pk], reason="not needed")
    assert (engine.state(dead), engine.row(dead).read_back_for) == (State.DEAD, "discard")
    engine.prove()
    assert engine.state(dead) is state
    assert_invariants(engine.organization)


def test_discard_of_what_was_overtaken_withdraws_it(engine, dead):
    engine.sandbox.edit(dead.pfa_id, {"model": "BY-HAND"}, modified_by="rio-planner")
    discard_dead_letters(membership=engine.member(), modification_ids=[dead.pk], reason="not needed")
    engine.settle()
    assert engine.state(dead) is State.WITHDRAWN


def test_a_read_back_that_fails_is_repeated_and_its_dead_letter_stays(engine, dead):
    retry_modification(membership=engine.member(), modification=dead)
    engine.sandbox.script("status_500", operation="GET")
    engine.prove()
    assert (engine.state(dead), engine.row(dead).read_back_for) == (State.DEAD, "retry")
    engine.prove()
    assert engine.state(dead) is State.QUEUED


def test_a_fix_of_what_may_still_land_is_refused(engine, dead):
    with pytest.raises(IllegalTransitionError, match="still reach"):
        replay_dead_letters(membership=engine.member(), modification_ids=[dead.pk], changes={"model": "FIXED"})
    with pytest.raises(IllegalTransitionError):
        withdraw_modification(membership=engine.member(), modification=dead)


def test_a_dead_letter_behind_which_the_lane_went_on_is_not_resent_at_another_version(engine, dead):
    later = engine.edit(engine.records[0], areaSilo="East")
    engine.settle()
    assert engine.state(later) is State.CONFIRMED
    assert engine.row(dead).expected_version == dead.expected_version, "exposed: byte for byte at b"
    assert engine.row(dead).base == dead.base
    retry_modification(membership=engine.member(), modification=dead)
    engine.settle()
    assert engine.state(dead) is State.CONFIRMED, "b + 1 was a visibly other write: ours never landed, and was rebased"
    assert engine.row(dead).confirmed_version == dead.expected_version + 2
    assert_applied_once(engine)


# ---------------------------------------------------------------- unguarded


def test_on_an_unguarded_connection_nothing_is_resent_by_machine(engine):
    Connection.objects.update(guarded=False)
    row = unknown(engine, kind="reset_before")
    engine.settle()
    assert engine.state(row) is State.CONFLICTED
    assert row.conflicts.get().kind == ConflictKind.OVERTAKEN
    assert row.ledger.count() == 1


def test_on_an_unguarded_connection_what_landed_is_confirmed(engine):
    Connection.objects.update(guarded=False)
    row = unknown(engine)
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
