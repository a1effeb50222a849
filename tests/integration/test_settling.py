"""One outcome per row becomes its next state; a bad row never takes the others with it (PROTOCOL.md, Outcomes)."""

import psycopg
import pytest
from django.db import OperationalError

from pems_sync import delivery, inbound, scheduling
from pems_sync.client import gateway
from pems_sync.client.base import Confirmed
from pems_sync.clock import database_now
from pems_sync.journal import unit_of_work
from pems_sync.models import Attempt, JournalEntry, Modification, Record, RecordVersion
from pems_sync.services import settlement
from pems_sync.services.moves import Moves
from pems_sync.services.people import retry_modification
from pems_sync.services.settlement import portions
from pems_sync.services.settling import settle_confirmed
from pems_sync.services.transitions import alone
from pems_sync.states import DeadReason, State
from tests.invariants import assert_applied_once, assert_invariants, assert_stored_equals_pems


@pytest.fixture
def one_request(monkeypatch):
    monkeypatch.setattr(scheduling, "CLAIM_HORIZON_SECONDS", 0.001)


def test_one_bad_row_of_a_batch_never_rolls_back_the_others(engine, one_request, failing_conflicts):
    """Twelve drift, one receiver raises: that row alone goes to DEAD(internal)."""
    rows = [engine.edit(record, model="OURS") for record in engine.records[:12]]
    clashing = engine.records[6:12]
    engine.sandbox.edit_many([{"pfaId": record.pfa_id, "changes": {"model": "THEIRS"}} for record in clashing])
    failing_conflicts(clashing[2].pfa_id)
    engine.settle()
    states = [engine.state(row) for row in rows]
    assert states[:6] == [State.CONFIRMED] * 6
    assert states.pop(8) is State.DEAD
    assert states[6:] == [State.CONFLICTED] * 5
    bad = engine.row(rows[8])
    assert (bad.dead_reason, bad.error_code, bad.may_still_land) == (DeadReason.INTERNAL, "INTERNAL", False)
    assert Record.objects.get(pk=bad.record_id).fields["model"] == "THEIRS", "what PEMS showed is kept"
    assert_invariants(engine.organization)
    assert_applied_once(engine)


def test_a_successor_whose_conflict_raises_never_rolls_back_the_head_that_was_applied(engine, cast, failing_conflicts):
    record, other = engine.records[:2]
    head = engine.edit(record, model="1")
    calm = engine.edit(other, model="1")
    (first, second) = engine.claim()
    behind = engine.edit(record, by=cast.second, model="2")
    failing_conflicts(record.pfa_id)
    delivery.deliver(first.delivery_id)
    delivery.deliver(second.delivery_id)
    assert [engine.state(row) for row in (head, calm)] == [State.CONFIRMED] * 2
    assert engine.row(behind).dead_reason == DeadReason.INTERNAL
    assert_invariants(engine.organization)


def test_a_proof_whose_conflict_raises_stops_that_row_alone(engine, failing_conflicts):
    record = engine.records[0]
    row = engine.edit(record, model="OURS")
    engine.sandbox.script("reset_before")
    engine.send()
    engine.sandbox.edit(record.pfa_id, {"model": "THEIRS"})
    failing_conflicts(record.pfa_id)
    engine.prove()
    assert engine.row(row).dead_reason == DeadReason.INTERNAL
    assert_invariants(engine.organization)


def test_an_inbound_page_is_stored_though_one_conflict_raises(engine, failing_conflicts):
    one, two = engine.records[:2]
    rows = [engine.edit(record, model="OURS") for record in (one, two)]
    engine.sandbox.edit_many([{"pfaId": record.pfa_id, "changes": {"model": "THEIRS"}} for record in (one, two)])
    failing_conflicts(one.pfa_id)
    engine.pull()
    assert [engine.state(row) for row in rows] == [State.DEAD, State.CONFLICTED]
    assert_stored_equals_pems(engine)


def test_a_dead_letter_whose_conflict_raises_stays_one(engine, failing_conflicts):
    record = engine.records[0]
    row = engine.edit(record, model="OURS")
    engine.sandbox.faults(script=[{"kind": "reset_before", "operation": "PUT", "times": 1}])
    engine.send()
    engine.prove()
    engine.sandbox.script("item_422")
    engine.skip_waits()
    engine.send()
    assert engine.row(row).may_still_land
    engine.sandbox.edit(record.pfa_id, {"model": "BY-HAND"}, modified_by="rio-planner")
    failing_conflicts(record.pfa_id)
    retry_modification(membership=engine.member(), modification=row)
    engine.prove()
    row = engine.row(row)
    assert (row.state, row.dead_reason, row.read_back_for) == (State.DEAD, DeadReason.REJECTED, "")


def test_a_200_without_a_record_is_stored_unverified_and_read(engine):
    record = engine.records[0]
    row = engine.edit(record, model="1")
    engine.sandbox.script("no_record")
    engine.send()
    stored = Record.objects.get(pk=record.pk)
    assert engine.state(row) is State.CONFIRMED
    assert (stored.version, stored.fields["model"]) == (record.version + 1, "1")
    assert stored.read_due_at is not None
    inbound.refresh(Record.objects.select_related("organization__connection").get(pk=record.pk))
    assert Record.objects.get(pk=record.pk).read_due_at is None
    assert_stored_equals_pems(engine)


def test_an_old_answer_repeated_for_a_key_is_applied_forward_only(engine):
    """A replayed 200 may name an old newVersion: the stored record is ahead already, and stays there."""
    record = engine.records[0]
    row = engine.edit(record, model="1")
    engine.sandbox.script("lost_reply")
    engine.send()
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Later"})
    Modification.objects.filter(pk=row.pk).update(
        state=State.QUEUED, not_before=None, delivery_id=None, lease_until=None, started_at=None
    )
    seen = engine.in_pems(record)
    engine.send()
    assert engine.state(row) is State.CONFIRMED
    assert engine.row(row).confirmed_version == record.version + 1
    Record.objects.get(pk=record.pk)
    engine.pull()
    assert Record.objects.get(pk=record.pk).version == seen["version"]
    assert_stored_equals_pems(engine)


def test_a_stored_record_already_newer_stays_and_its_foreign_change_is_told(engine):
    record = engine.records[0]
    row = engine.edit(record, model="1")
    (claim,) = engine.claim()
    fields = {**record.fields, "model": "1", "areaSilo": "Later"}
    rows = delivery.held_rows(claim.delivery_id)
    Record.objects.filter(pk=record.pk).update(version=record.version + 2, fields=fields)
    answer = Confirmed(record.version + 1, None, None)
    settle_confirmed([(rows[0], answer)], {row.pk: _note(rows[0])})
    stored = Record.objects.get(pk=record.pk)
    assert (stored.version, stored.fields["areaSilo"]) == (record.version + 2, "Later")
    told = JournalEntry.objects.get(kind="record_changed")
    assert told.details == {"newVersion": record.version + 2, "changedFields": ["areaSilo"]}


def _note(row):
    return settlement.Note(
        Attempt.objects.create(
            modification=row, epoch=row.lease_epoch, delivery_id=row.delivery_id, version_sent=row.expected_version,
            idempotency_key=row.pk, request={}, worker="w", started_at=database_now(),
        )
    )  # fmt: skip


def test_every_version_seen_is_kept_and_ours_is_named(engine):
    record = engine.records[0]
    row = engine.edit(record, model="1")
    engine.settle()
    versions = RecordVersion.objects.filter(record=record).order_by("version")
    assert [(each.version, each.modification_id) for each in versions] == [
        (record.version, None),
        (record.version + 1, row.pk),
    ]


def test_a_transaction_carries_at_most_500_entries_except_a_commit(engine, cast, monkeypatch, one_request):
    """Twelve records, on each of which three more planners have drafts that are put at risk."""
    monkeypatch.setattr(settlement, "MOST_ENTRIES", 20)
    for record in engine.records[:12]:
        engine.edit(record, model="OURS")
        for author in (cast.second, cast.lead, cast.admin):
            engine.draft(record, by=author, model="THEIRS")
    before = JournalEntry.objects.filter(organization=engine.organization).last().position
    engine.send()
    new = JournalEntry.objects.filter(organization=engine.organization, position__gt=before)
    assert new.filter(kind="modification_confirmed").count() == 12
    assert new.filter(kind="draft_at_risk").count() == 36
    settled = new.exclude(kind__in=("delivery_claimed", "delivery_started")).values_list("recorded_at", flat=True)
    assert max(list(settled).count(at) for at in set(settled)) <= 20
    assert_invariants(engine.organization)


def test_portions_hold_what_fits_and_a_record_with_too_much_goes_alone(engine, cast, monkeypatch):
    monkeypatch.setattr(settlement, "MOST_ENTRIES", 7)
    one, two, three = engine.records[:3]
    for author in (cast.planner, cast.second, cast.lead, cast.admin):
        engine.draft(two, by=author, model="X")
    sizes = list(portions([one, two, three], record_id=lambda record: record.pk, own_entries=3))
    assert sizes == [[one], [two], [three]]
    assert list(portions([one, three], record_id=lambda record: record.pk, own_entries=3)) == [[one, three]]
    assert list(portions([], record_id=lambda record: record.pk, own_entries=3)) == []


def test_a_characterful_answer_of_pems_is_kept_as_far_as_a_database_can(engine, monkeypatch):
    """NUL and half a surrogate pair in a message: the row is settled all the same."""
    row = engine.edit(engine.records[0], model="1")
    engine.sandbox.script("item_422")
    said = b'{"error":"BUSINESS_RULE","message":"no\\u0000t \\ud800 now","field":"mo\\u0000del"}'
    parse = gateway.parse_json
    monkeypatch.setattr(gateway, "parse_json", lambda content: parse(said))
    engine.send()
    assert (engine.state(row), engine.row(row).error_message) == (State.DEAD, "not  now")


def test_there_is_no_way_from_a_state_to_one_that_the_table_does_not_name(engine):
    row = engine.edit(engine.records[0], model="1")
    with unit_of_work() as work, pytest.raises(ValueError, match="no way from queued to draft"):
        Moves(work).move(row, State.DRAFT)


def test_a_lost_deadlock_is_never_taken_for_a_defect_of_the_row(engine):
    """It is let through, so that the whole transaction is carried out again."""
    row = engine.edit(engine.records[0], model="1")
    with pytest.raises(OperationalError), unit_of_work() as work, alone(Moves(work), row):
        raise OperationalError from psycopg.errors.DeadlockDetected()
    assert engine.state(row) is State.QUEUED
