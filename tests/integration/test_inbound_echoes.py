"""Our own write coming back is no foreign change, whichever way it comes (K6)."""

from dataclasses import replace

import pytest

from pems_sync import delivery, inbound
from pems_sync.client.answers import record_of
from pems_sync.models import InboundState, JournalEntry, Record, RecordVersion
from pems_sync.states import State
from tests.invariants import assert_invariants, assert_stored_equals_pems


@pytest.fixture
def record(engine):
    return engine.records[0]


def told(record):
    entries = JournalEntry.objects.filter(pfa_id=record.pfa_id, wire_type="RECORD_CHANGED")
    return [entry.details["changedFields"] for entry in entries]


def adjusted(engine):
    return InboundState.objects.get(organization=engine.organization).adjusted


def shown(engine, record):
    return record_of(engine.in_pems(record), organization_code="RIO")


def test_an_own_write_that_comes_back_is_not_news(engine, record):
    engine.edit(record, model="1")
    engine.settle()
    versions = RecordVersion.objects.count()
    assert engine.pull().changed == 0
    assert (told(record), RecordVersion.objects.count(), adjusted(engine)) == ([], versions, 0)


@pytest.mark.parametrize("script", [None, "no_record"])
def test_a_webhook_of_our_own_write_before_its_reply_is_no_foreign_change(engine, record, cast, monkeypatch, script):
    """PEMS has applied it, its reply is on its way, and inbound sees the record first."""
    draft = engine.draft(record, by=cast.second, areaSilo="East")
    row = engine.edit(record, model="1")
    settle = delivery.settle_confirmed

    def beaten(*arguments):
        inbound.apply(engine.organization, [shown(engine, record)])
        assert engine.state(row) is State.SENDING
        settle(*arguments)

    monkeypatch.setattr(delivery, "settle_confirmed", beaten)
    if script:
        engine.sandbox.script(script)
    engine.send()
    assert engine.state(row) is State.CONFIRMED
    assert (told(record), engine.row(draft).at_risk, adjusted(engine)) == ([], [], 0)
    assert_stored_equals_pems(engine)
    assert_invariants(engine.organization)


def test_a_value_pems_adjusted_is_counted_and_no_foreign_change_though_seen_before_the_reply(
    engine, record, monkeypatch
):
    row, settle = engine.edit(record, model="ours"), delivery.settle_confirmed

    def beaten(pairs, notes):
        """The reply names the version alone; inbound has seen what PEMS made of it."""
        seen = shown(engine, record)
        inbound.apply(engine.organization, [replace(seen, fields=seen.fields | {"model": "OURS"})])
        settle([(one, replace(answer, record=None)) for one, answer in pairs], notes)

    monkeypatch.setattr(delivery, "settle_confirmed", beaten)
    engine.send()
    assert engine.state(row) is State.CONFIRMED
    assert engine.row(row).adjusted == {"model": "OURS"}
    assert (told(record), adjusted(engine)) == ([], 1)


def test_what_pems_made_of_our_value_is_recorded_as_adjusted(engine, record, cast):
    """Confirmed without being shown; the page shows another value at the very version of our write."""
    engine.sandbox.script("no_record")
    row = engine.edit(record, model="ours", areaSilo="East")
    engine.send()
    assert Record.objects.get(pk=record.pk).read_due_at is not None
    seen = shown(engine, record)
    inbound.apply(engine.organization, [replace(seen, fields=seen.fields | {"model": "OURS"})])
    row = engine.row(row)
    assert (row.state, row.adjusted) == (State.CONFIRMED, {"model": "OURS"})
    assert (told(record), adjusted(engine)) == ([], 1)
    entry = JournalEntry.objects.get(kind="modification_adjusted")
    assert (entry.modification_id, entry.after) == (row.pk, {"adjusted": {"model": "OURS"}})
    version = RecordVersion.objects.filter(record=record).latest("pk")
    assert (version.modification_id, version.fields["model"]) == (row.pk, "OURS")
    assert_invariants(engine.organization)


def test_an_adjusted_value_is_no_conflict_for_the_next_edit_of_its_author(engine, record):
    engine.sandbox.script("no_record")
    engine.edit(record, model="ours")
    engine.send()
    later = engine.edit(record, model="next")
    seen = shown(engine, record)
    inbound.apply(engine.organization, [replace(seen, fields=seen.fields | {"model": "OURS"})])
    assert engine.state(later) is State.QUEUED
    assert engine.row(later).base["model"] == "OURS"


def test_what_else_moved_at_that_version_is_told(engine, record):
    engine.sandbox.script("no_record")
    engine.edit(record, model="ours")
    engine.send()
    seen = shown(engine, record)
    inbound.apply(engine.organization, [replace(seen, fields=seen.fields | {"model": "OURS", "areaSilo": "Moved"})])
    assert told(record) == [["areaSilo"]]


def test_the_same_values_by_a_foreign_hand_at_a_later_version_are_a_foreign_change(engine, record):
    """By version, not by time or user."""
    engine.edit(record, model="1")
    engine.settle()
    engine.sandbox.edit(record.pfa_id, {"model": "2"}, modified_by="rio-planner")
    engine.pull()
    assert (told(record), adjusted(engine)) == ([["model"]], 0)
