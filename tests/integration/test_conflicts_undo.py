"""A decision taken back: within ten minutes, while nothing of it was sent. Nothing is lost and nothing is sent twice."""

from __future__ import annotations

from datetime import timedelta

import pytest

from conflicts.errors import UndoTooLateError
from conflicts.models import Conflict, Resolution
from conflicts.services import resolve
from conflicts.undoing import UNDOABLE_FOR, undo, undoable_until
from pems_sync.models import JournalEntry, Modification
from pems_sync.services.people import withdraw_modification
from pems_sync.states import State
from tests.invariants import assert_applied_once, assert_invariants


@pytest.fixture
def record(engine):
    return engine.records[0]


@pytest.fixture
def clash(engine, record):
    row = engine.edit(record, model="OURS", areaSilo="East")
    engine.sandbox.edit(record.pfa_id, {"model": "THEIRS"})
    engine.settle()
    assert engine.state(row) is State.CONFLICTED
    return row.conflicts.get()


@pytest.fixture
def decide(engine):
    def decide(conflict, resolution, **more):
        return resolve(membership=engine.member(), conflict=conflict, resolution=resolution, **more).conflict

    return decide


def standing(row: Modification) -> tuple:
    return row.state, row.is_head, row.changes, row.base, row.base_version, row.expected_version, row.queued_at


@pytest.mark.parametrize(
    ("resolution", "more"),
    [(Resolution.USE_LOCAL, {}), (Resolution.MERGE, {"merged_data": {"model": "BOTH", "dor": "BEO"}})],
)
def test_an_edit_that_waits_to_be_sent_goes_back_to_what_it_was(engine, cast, clash, decide, resolution, more):
    before = standing(engine.row(clash.modification))
    decide(clash, resolution, comment="too quick", **more)
    reopened = undo(membership=engine.member(cast.second), conflict=clash)
    assert (reopened.pk, reopened.resolved_at, reopened.resolution, reopened.comment) == (clash.pk, None, "", "")
    assert reopened.decided is None
    assert standing(engine.row(clash.modification)) == before
    assert engine.send() == 0, "the lane waits again"
    entry = JournalEntry.objects.get(kind="conflict_reopened")
    assert (entry.actor, entry.wire_type, entry.before["resolution"]) == ("rio-second", "SYNC_CONFLICT", resolution)
    assert entry.details == {"conflictId": str(clash.pk), "conflictingFields": ["model"]}
    assert_invariants(engine.organization)


def test_what_was_taken_back_can_be_decided_otherwise(engine, record, clash, decide):
    decide(clash, Resolution.USE_LOCAL)
    decide(undo(membership=engine.member(), conflict=clash), Resolution.MERGE, merged_data={"model": "BOTH"})
    undo(membership=engine.member(), conflict=clash)
    decide(clash, Resolution.USE_LOCAL)
    engine.settle()
    assert engine.state(clash.modification) is State.CONFIRMED
    assert (engine.in_pems(record)["model"], engine.in_pems(record)["areaSilo"]) == ("OURS", "East")
    assert_applied_once(engine)
    assert_invariants(engine.organization)


@pytest.mark.parametrize("resolution", [Resolution.USE_PEMS, Resolution.MERGE])
def test_a_withdrawn_edit_is_final_and_another_takes_its_place(engine, cast, record, clash, decide, resolution):
    area = record.fields["areaSilo"]
    merged = {"model": "THEIRS", "areaSilo": area} if resolution is Resolution.MERGE else None
    was = engine.row(clash.modification)
    decide(clash, resolution, merged_data=merged)
    behind = engine.edit(record, by=cast.second, dor="BEO")
    reopened = undo(membership=engine.member(cast.lead), conflict=clash)
    assert engine.state(was) is State.WITHDRAWN
    row = reopened.modification
    assert (row.author, row.authorised_by, row.changes, row.base) == (was.author, cast.lead, was.changes, was.base)
    assert (engine.row(was).superseded_by_id, row.job_id) == (row.pk, was.job_id)
    assert Conflict.objects.unresolved().get() == reopened
    engine.settle()
    assert engine.state(behind) is State.CONFIRMED, "what was committed meanwhile goes first"
    decide(reopened, Resolution.USE_LOCAL)
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert engine.in_pems(record)["model"] == "OURS"
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_it_shows_what_pems_holds_when_it_is_open_again(engine, record, clash, decide):
    decide(clash, Resolution.USE_PEMS)
    engine.sandbox.edit(record.pfa_id, {"model": "NEWER"})
    engine.pull()
    reopened = undo(membership=engine.member(), conflict=clash)
    assert (reopened.pems_version, reopened.fields[0]["theirs"]) == (record.version + 2, "NEWER")


def test_what_a_worker_holds_or_pems_has_is_too_late(engine, clash, decide):
    """Claimed, started, confirmed: each is one step too far; so is what came back after a request of it."""
    decide(clash, Resolution.USE_LOCAL)
    engine.claim()
    with pytest.raises(UndoTooLateError, match="on its way"):
        undo(membership=engine.member(), conflict=clash)
    engine.expire_leases()
    assert engine.state(clash.modification) is State.QUEUED
    engine.sandbox.script("status_423", retryAfter="1")
    engine.send()
    assert engine.state(clash.modification) is State.QUEUED
    with pytest.raises(UndoTooLateError, match="on its way"):
        undo(membership=engine.member(), conflict=clash)
    engine.settle()
    assert engine.state(clash.modification) is State.CONFIRMED
    with pytest.raises(UndoTooLateError, match="delivered"):
        undo(membership=engine.member(), conflict=clash)
    assert Conflict.objects.unresolved().count() == 0


def test_a_claim_that_was_given_back_unsent_can_be_undone(engine, clash, decide):
    decide(clash, Resolution.USE_LOCAL)
    engine.claim()
    engine.expire_leases()
    assert undo(membership=engine.member(), conflict=clash).resolved_at is None
    assert_invariants(engine.organization)


def test_ten_minutes_are_the_end_of_it(engine, clash, decide):
    resolved = decide(clash, Resolution.USE_PEMS)
    resolved.modification = engine.row(resolved.modification)
    assert undoable_until(resolved) == resolved.resolved_at + UNDOABLE_FOR
    resolved.resolved_at -= UNDOABLE_FOR + timedelta(seconds=1)
    resolved.save()
    assert undoable_until(resolved) is None
    with pytest.raises(UndoTooLateError, match="ten minutes"):
        undo(membership=engine.member(), conflict=clash)


def test_an_open_one_and_one_whose_edit_was_withdrawn_are_no_decisions(engine, clash):
    with pytest.raises(UndoTooLateError, match="open"):
        undo(membership=engine.member(), conflict=clash)
    withdraw_modification(membership=engine.member(), modification=clash.modification)
    with pytest.raises(UndoTooLateError, match="withdrawn"):
        undo(membership=engine.member(), conflict=clash)
    clash.refresh_from_db()
    assert undoable_until(clash) is None
