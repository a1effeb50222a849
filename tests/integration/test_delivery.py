"""The way of an edit, step by step: what each answer of PEMS does to it (PROTOCOL.md, Outcomes of a request)."""

from pems_sync.models import Record
from pems_sync.states import State


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


def test_with_a_backlog_edits_travel_in_batches(engine):
    rows = [engine.edit(record, model=f"NEW-{number}") for number, record in enumerate(engine.records[:12])]
    engine.settle()
    assert {engine.state(row) for row in rows} == {State.CONFIRMED}
    assert all(len(engine.applied(row)) == 1 for row in rows)
