"""What PEMS no longer shows is given up late, never many at once, and comes back when it is seen again (N2, K7)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pems_sync import inbound
from pems_sync.client.base import Page
from pems_sync.clock import database_now
from pems_sync.inbound import naming, pages, pulling
from pems_sync.inbound.pages import Reader
from pems_sync.models import InboundState, Job, JournalEntry, NamedRead, Record
from pems_sync.states import State
from tests.invariants import assert_invariants


@pytest.fixture
def sweep(engine):
    return lambda: inbound.pull(engine.organization, full=True)


@pytest.fixture
def state(engine):
    return lambda: InboundState.objects.get(organization=engine.organization)


@pytest.fixture(autouse=True)
def _no_brake_for_few(monkeypatch):
    """One of a dozen records is more than 5 percent."""
    monkeypatch.setattr("pems_sync.inbound.tombstones.MOST_MISSING", 0.5)


def stored(record):
    return Record.objects.get(pk=record.pk)


def test_missing_in_two_sweeps_a_record_is_given_up_and_its_open_edits_ask(engine, sweep, cast):
    record = engine.records[0]
    row, draft = engine.edit(record, model="1"), engine.draft(record, by=cast.second, areaSilo="East")
    engine.sandbox.remove(record.pfa_id)
    sweep()
    assert (stored(record).deleted_at, stored(record).missed_sweeps) == (None, 1)
    assert engine.state(row) is State.QUEUED
    sweep()
    assert stored(record).deleted_at is not None
    assert engine.state(row) is State.CONFLICTED
    assert row.conflicts.get().kind == "edit_deleted"
    assert engine.row(draft).at_risk == ["isDiscontinued"]
    assert JournalEntry.objects.filter(kind="record_gone", pfa_id=record.pfa_id).count() == 1
    assert_invariants(engine.organization)


def test_a_pull_of_changes_gives_nothing_up(engine, sweep):
    record = engine.records[0]
    engine.sandbox.remove(record.pfa_id)
    for _ in range(3):
        inbound.pull(engine.organization)
    assert stored(record).missed_sweeps == 0


def test_a_record_seen_again_counts_from_the_start(engine, sweep):
    record = engine.records[0]
    Record.objects.filter(pk=record.pk).update(missed_sweeps=1)
    sweep()
    assert stored(record).missed_sweeps == 0
    Record.objects.filter(pk=record.pk).update(deleted_at=database_now(), missed_sweeps=0)
    engine.sandbox.edit(record.pfa_id, {"model": "BACK"})
    sweep()
    assert stored(record).deleted_at is None, "a higher version raises it from the dead"


def test_a_record_that_pems_denied_by_mistake_comes_back_with_the_next_sweep(engine, sweep):
    """PEMS says NOT_FOUND of a record it has, once: a sweep that shows it has it read by itself, which raises it."""
    record = engine.records[0]
    row = engine.edit(record, model="1")
    engine.sandbox.script("item_404", pfaId=record.pfa_id)
    engine.send()
    assert engine.state(row) is State.CONFLICTED
    assert stored(record).deleted_at is not None
    sweep()
    assert stored(record).deleted_at is not None, "a page may be older than the tombstone"
    naming.read_named(engine.organization)
    assert stored(record).deleted_at is None
    assert JournalEntry.objects.filter(kind="record_revived", pfa_id=record.pfa_id).count() == 1
    assert not NamedRead.objects.exists()
    assert_invariants(engine.organization)


def test_a_record_that_is_gone_stays_gone(engine, sweep):
    record = engine.records[0]
    engine.sandbox.remove(record.pfa_id)
    for _ in range(3):
        sweep()
    naming.read_named(engine.organization)
    assert stored(record).deleted_at is not None


def test_a_sweep_that_went_on_after_a_break_does_not_count(engine, sweep, monkeypatch):
    record = engine.records[0]
    engine.sandbox.remove(record.pfa_id)
    monkeypatch.setattr(pages, "PAGE_ROWS", 4)
    apply, page, turned = pulling.apply, Reader.page, []
    monkeypatch.setattr(Reader, "page", lambda self, **how: replace(page(self, **how), total=None))

    def broken(organization, rows):
        turned.append(1)
        if len(turned) == 2:
            raise ZeroDivisionError
        return apply(organization, rows)

    monkeypatch.setattr(pulling, "apply", broken)
    with pytest.raises(ZeroDivisionError):
        sweep()
    assert "defect" in Job.objects.latest("started_at").errors[0]["message"]
    sweep()
    assert stored(record).missed_sweeps == 0, "its first pages were seen by nobody"
    assert InboundState.objects.filter(sweep_due_at__lte=database_now() + timedelta(hours=1)).exists(), "soon again"
    sweep()
    assert stored(record).missed_sweeps == 1


def test_a_sweep_that_saw_fewer_than_pems_says_it_has_does_not_count(engine, sweep, state, monkeypatch):
    before, shown = state().last_sweep_keys, Reader.of(engine.organization).page()
    short = Page(shown.records[1:], (), None, shown.total, datetime.now(UTC))
    monkeypatch.setattr(Reader, "page", lambda *_, **__: short)
    sweep()
    sweep()
    assert not Record.objects.filter(missed_sweeps__gt=0).exists()
    assert state().last_sweep_keys == before


def test_where_pems_does_not_say_how_many_two_sweeps_must_agree(engine, sweep, monkeypatch):
    shown = Reader.of(engine.organization).page()

    def lists(*, without):
        rest = Page(shown.records[without:], (), None, None, datetime.now(UTC))
        monkeypatch.setattr(Reader, "page", lambda *_, **__: rest)

    gone = Record.objects.get(pfa_id=shown.records[0].pfa_id)
    lists(without=1)
    sweep()
    lists(without=2)
    sweep()
    assert (stored(gone).deleted_at, stored(gone).missed_sweeps) == (None, 2), "the counts differ"
    sweep()
    assert stored(gone).deleted_at is not None


def test_a_row_that_cannot_be_read_is_not_gone(engine, sweep, monkeypatch):
    from pems_sync.client.base import BrokenRow

    shown = Reader.of(engine.organization).page()
    broken = BrokenRow(shown.records[0].pfa_id, "has no version")
    page = Page(shown.records[1:], (broken,), None, shown.total, datetime.now(UTC))
    monkeypatch.setattr(Reader, "page", lambda *_, **__: page)
    sweep()
    assert not Record.objects.filter(missed_sweeps__gt=0).exists()


def test_too_many_missing_at_once_and_none_is_given_up(engine, sweep, state, monkeypatch):
    monkeypatch.setattr("pems_sync.inbound.tombstones.MOST_MISSING", 0.05)
    row = engine.edit(engine.records[0], model="1")
    engine.sandbox.remove(*[record.pfa_id for record in engine.records])
    sweep()
    assert state().brake == ""
    sweep()
    assert Record.objects.filter(deleted_at=None).count() == Record.objects.count()
    assert "none was given up" in state().brake
    assert engine.state(row) is State.QUEUED
    assert JournalEntry.objects.get(kind="sweep_braked").after["missing"] == len(engine.records)
    engine.sandbox.reset()
    sweep()
    assert state().brake == "", "all there again"


def test_only_rows_that_differ_are_written(engine, sweep, django_assert_max_num_queries):
    with django_assert_max_num_queries(60):
        sweep()
    assert not Record.objects.filter(missed_sweeps__gt=0).exists()
