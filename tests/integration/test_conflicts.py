"""People decide: use_local, use_pems, merge; once, on what they have seen, with the rights it takes (K5, K7, K8)."""

import pytest

from conflicts.errors import AlreadyResolvedError, RecordGoneError
from conflicts.freshness import refreshed
from conflicts.models import Conflict, Resolution
from conflicts.services import resolve
from pems_sync.errors import ConflictMovedError, InvalidChangesError
from pems_sync.inbound import mark_gone
from pems_sync.models import JournalEntry, Membership, Record
from pems_sync.services import people
from pems_sync.states import State
from tests.invariants import assert_applied_once, assert_invariants, assert_stored_equals_pems


@pytest.fixture
def record(engine):
    return engine.records[0]


@pytest.fixture
def clash(engine, record):
    """Ours against THEIRS, in one field."""
    row = engine.edit(record, model="OURS")
    engine.sandbox.edit(record.pfa_id, {"model": "THEIRS"})
    engine.settle()
    assert engine.state(row) is State.CONFLICTED
    return row


def decide(engine, row, resolution, *, by=None, seen=None, **more):
    conflict = row.conflicts.latest("opened_at")
    return resolve(
        membership=engine.member(by), conflict=conflict, resolution=resolution, seen_pems_version=seen, **more
    )


def test_use_local_sends_our_values_on_against_the_present_version(engine, record, cast, clash):
    resolved = decide(engine, clash, Resolution.USE_LOCAL, by=cast.lead, comment="ours is newer")
    assert (resolved.applied_changes, resolved.requeued) == ({"model": "OURS"}, True)
    row = engine.row(clash)
    assert (row.state, row.authorised_by, row.base["model"]) == (State.QUEUED, cast.lead, "THEIRS")
    engine.settle()
    assert engine.in_pems(record)["model"] == "OURS"
    assert engine.applied(row)[0]["modifiedBy"] == "rio-lead"
    conflict = row.conflicts.get()
    assert (conflict.resolved_by, conflict.comment) == (cast.lead, "ours is newer")
    assert len(set(row.ledger.values_list("idempotency_key", flat=True))) == 2, "a new key after a resolution"
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_use_pems_withdraws_the_edit_and_frees_its_lane(engine, record, cast, clash):
    behind = engine.edit(record, by=cast.second, areaSilo="East")
    resolved = decide(engine, clash, Resolution.USE_PEMS)
    assert (resolved.applied_changes, resolved.requeued) == ({}, False)
    assert engine.state(clash) is State.WITHDRAWN
    engine.settle()
    assert engine.state(behind) is State.CONFIRMED
    assert engine.in_pems(record)["model"] == "THEIRS"
    kinds = JournalEntry.objects.filter(modification_id=clash.pk, wire_type="CONFLICT_RESOLVED")
    assert [entry.details["resolution"] for entry in kinds] == ["use_pems"]
    assert_stored_equals_pems(engine)
    assert_invariants(engine.organization)


def test_a_conflict_is_resolved_once(engine, clash):
    first = clash.conflicts.get()
    decide(engine, clash, Resolution.USE_PEMS)
    with pytest.raises(AlreadyResolvedError):
        resolve(membership=engine.member(), conflict=first, resolution=Resolution.USE_LOCAL)


def test_a_conflict_whose_edit_was_withdrawn_is_closed(engine, clash):
    people.withdraw_modification(membership=engine.member(), modification=clash)
    with pytest.raises(AlreadyResolvedError):
        decide(engine, clash, Resolution.USE_LOCAL)


def test_a_conflict_that_moved_is_shown_anew_before_anything_is_decided(engine, record, clash):
    engine.sandbox.edit(record.pfa_id, {"model": "NEWER"})
    engine.pull()
    seen = record.version + 1
    with pytest.raises(ConflictMovedError) as moved:
        decide(engine, clash, Resolution.USE_LOCAL, seen=seen)
    shown = moved.value.details["conflict"]
    assert (shown.pems_version, shown.fields[0]["theirs"]) == (seen + 1, "NEWER")
    assert engine.state(clash) is State.CONFLICTED
    with pytest.raises(ConflictMovedError):
        decide(engine, clash, Resolution.USE_LOCAL, seen=seen)
    decide(engine, clash, Resolution.USE_LOCAL, seen=seen + 1)
    engine.settle()
    assert engine.in_pems(record)["model"] == "OURS"


def test_a_move_in_other_fields_needs_no_second_look(engine, record, clash):
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    engine.pull()
    decide(engine, clash, Resolution.USE_LOCAL, seen=record.version + 1)
    assert engine.row(clash).expected_version == record.version + 2
    engine.settle()
    assert engine.state(clash) is State.CONFIRMED
    assert engine.in_pems(record)["areaSilo"] == "Moved"


def test_a_base_that_fell_meanwhile_joins_the_conflict(engine, record):
    row = engine.edit(record, model="OURS", areaSilo="OURS")
    engine.sandbox.edit(record.pfa_id, {"model": "THEIRS"})
    engine.settle()
    assert [field["name"] for field in row.conflicts.get().fields] == ["model"]
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "THEIRS"})
    engine.pull()
    with pytest.raises(ConflictMovedError) as moved:
        decide(engine, row, Resolution.USE_LOCAL, seen=record.version + 1)
    assert {field["name"] for field in moved.value.details["conflict"].fields} == {"model", "areaSilo"}


def test_a_change_of_pems_that_we_want_as_well_asks_nothing_more(engine, record):
    """K3"""
    row = engine.edit(record, model="OURS", areaSilo="East")
    engine.sandbox.edit(record.pfa_id, {"model": "THEIRS"})
    engine.settle()
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "East"})
    engine.pull()
    resolved = decide(engine, row, Resolution.MERGE, seen=record.version + 1, merged_data={"model": "BOTH"})
    assert resolved.applied_changes == {"model": "BOTH"}
    engine.settle()
    assert (engine.in_pems(record)["model"], engine.in_pems(record)["areaSilo"]) == ("BOTH", "East")


def test_a_conflict_whose_record_goes_becomes_another_question(engine, record, clash):
    """K7: seen as two values of one field, decided as a record that is there no more."""
    mark_gone(record)
    with pytest.raises(ConflictMovedError) as moved:
        decide(engine, clash, Resolution.USE_LOCAL, seen=record.version + 1)
    shown = moved.value.details["conflict"]
    assert (shown.kind, shown.fields[0]["theirs"], shown.pattern) == (
        "edit_deleted",
        None,
        f"edit_deleted: model {record.fields['model']} → none",
    )
    with pytest.raises(RecordGoneError):
        decide(engine, clash, Resolution.MERGE, merged_data={"model": "OTHER"})
    decide(engine, clash, Resolution.USE_PEMS)
    assert engine.state(clash) is State.WITHDRAWN


def test_a_record_discontinued_meanwhile_may_be_edited_and_stays_discontinued(engine, record, clash):
    """K7: our values may stand, what PEMS discontinued is not brought back."""
    engine.sandbox.edit(record.pfa_id, {"isDiscontinued": True})
    engine.pull()
    with pytest.raises(ConflictMovedError) as moved:
        decide(engine, clash, Resolution.USE_LOCAL, seen=record.version + 1)
    assert moved.value.details["conflict"].kind == "edit_discontinued"
    with pytest.raises(InvalidChangesError, match="isDiscontinued"):
        decide(engine, clash, Resolution.MERGE, merged_data={"model": "X", "isDiscontinued": False})
    decide(engine, clash, Resolution.MERGE, merged_data={"model": "CHOSEN", "isDiscontinued": True})
    assert clash.conflicts.get().decided == {"model": "CHOSEN", "isDiscontinued": True}
    engine.settle()
    assert engine.state(clash) is State.CONFIRMED
    assert (engine.in_pems(record)["model"], engine.in_pems(record)["isDiscontinued"]) == ("CHOSEN", True)


def test_a_merge_is_written_once_on_the_version_it_was_decided_on(engine, record, cast, clash):
    """K8: the base advances with the decision, so nothing is left to report again."""
    resolved = decide(engine, clash, Resolution.MERGE, by=cast.lead, merged_data={"model": "BOTH", "dor": "BEO"})
    assert resolved.applied_changes == {"model": "BOTH", "dor": "BEO"}
    row = engine.row(clash)
    assert (row.state, row.authorised_by, row.base["model"]) == (State.QUEUED, cast.lead, "THEIRS")
    assert row.base["dor"] == Record.objects.get(pk=record.pk).fields["dor"]
    engine.settle()
    assert engine.state(clash) is State.CONFIRMED
    assert (engine.in_pems(record)["model"], engine.in_pems(record)["dor"]) == ("BOTH", "BEO")
    assert row.conflicts.get().decided == {"model": "BOTH"}
    assert row.conflicts.get().fields[0]["ours"] == "OURS", "the losers are kept"
    assert_applied_once(engine)
    assert_stored_equals_pems(engine)
    assert_invariants(engine.organization)


def test_a_merge_that_pems_moves_under_is_asked_again_with_its_history(engine, record, clash):
    """K5 after the decision: the write is conditional on what was seen."""
    decide(engine, clash, Resolution.MERGE, merged_data={"model": "BOTH"})
    engine.sandbox.edit(record.pfa_id, {"model": "AGAIN"})
    engine.settle()
    assert engine.state(clash) is State.CONFLICTED
    assert [each.resolution for each in clash.conflicts.order_by("opened_at")] == ["merge", ""]
    again = Conflict.objects.unresolved().get()
    assert [again.fields[0][side] for side in ("base", "ours", "theirs")] == ["THEIRS", "BOTH", "AGAIN"]


def test_a_conflict_says_when_pems_changed_the_record_and_what_it_is_like(engine, record, clash):
    conflict = clash.conflicts.get()
    assert conflict.theirs_at == Record.objects.get(pk=record.pk).changed_at
    assert conflict.field_names == ["model"]
    assert conflict.pattern == f"model {record.fields['model']} → THEIRS"
    engine.sandbox.edit(record.pfa_id, {"model": "NEWER"})
    engine.pull()
    fresh = refreshed(conflict)
    assert fresh.pattern == f"model {record.fields['model']} → NEWER"
    assert fresh.theirs_at > conflict.theirs_at


def test_a_resolver_needs_the_right_to_every_field_that_is_written(engine, record, cast):
    row = engine.edit(record, by=cast.lead, actualStart="2026-01-01", model="OURS")
    engine.sandbox.edit(record.pfa_id, {"model": "THEIRS"})
    engine.settle()
    with pytest.raises(InvalidChangesError) as refused:
        decide(engine, row, Resolution.USE_LOCAL, by=cast.planner)
    assert [field["code"] for field in refused.value.details["fields"]] == ["FIELD_NOT_EDITABLE"]
    assert engine.state(row) is State.CONFLICTED
    decide(engine, row, Resolution.USE_PEMS, by=cast.planner)
    assert engine.state(row) is State.WITHDRAWN


def test_our_values_that_would_make_an_invalid_record_are_not_sent(engine, record):
    row = engine.edit(record, forecastEnd="2031-06-30")
    engine.sandbox.edit(record.pfa_id, {"forecastStart": "2032-01-01", "forecastEnd": "2032-06-30"})
    engine.settle()
    with pytest.raises(InvalidChangesError, match="forecastEnd"):
        decide(engine, row, Resolution.USE_LOCAL)
    assert Conflict.objects.unresolved().count() == 1
    assert Conflict.objects.resolved().count() == 0


def test_a_record_that_is_gone_leaves_only_use_pems(engine, record):
    row = engine.edit(record, model="OURS")
    mark_gone(record)
    with pytest.raises(RecordGoneError):
        decide(engine, row, Resolution.USE_LOCAL)
    decide(engine, row, Resolution.USE_PEMS)
    assert engine.state(row) is State.WITHDRAWN


def test_a_delete_that_clashed_can_be_sent_on(engine, record):
    row = engine.edit(record, isDiscontinued=True)
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    engine.settle()
    decide(engine, row, Resolution.USE_LOCAL)
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert engine.in_pems(record)["isDiscontinued"] is True


def test_a_resolved_edit_that_clashes_again_opens_a_new_conflict_and_keeps_the_old(engine, record, clash):
    decide(engine, clash, Resolution.USE_LOCAL)
    engine.sandbox.edit(record.pfa_id, {"model": "AGAIN"})
    engine.settle()
    assert engine.state(clash) is State.CONFLICTED
    assert clash.conflicts.count() == 2
    assert Conflict.objects.unresolved().get().fields[0]["base"] == "THEIRS", "the base is what the resolver saw"


def test_a_repeated_foreign_change_does_not_report_the_same_conflict_again(engine, record, clash):
    for number in range(3):
        engine.sandbox.edit(record.pfa_id, {"areaSilo": f"{number}"})
        engine.pull()
    assert clash.conflicts.count() == 1
    assert JournalEntry.objects.filter(wire_type="SYNC_CONFLICT").count() == 1


def test_the_event_of_a_conflict_carries_no_field_values(engine, clash):
    entry = JournalEntry.objects.get(wire_type="SYNC_CONFLICT")
    assert entry.details == {"conflictId": str(clash.conflicts.get().pk), "conflictingFields": ["model"]}
    assert "THEIRS" not in str(entry.details)


def test_rights_lost_between_resolution_and_sending_stop_it(engine, cast, clash):
    decide(engine, clash, Resolution.USE_LOCAL, by=cast.lead)
    Membership.objects.filter(user=cast.lead).delete()
    engine.settle()
    assert engine.row(clash).error_code == "NOT_AUTHORISED"
    assert Record.objects.get(pk=clash.record_id).fields["model"] == "THEIRS"
