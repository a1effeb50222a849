"""One head per record; later edits wait, fold, advance or ask (PROTOCOL.md, Lanes and What is stored; D8, K6)."""

from dataclasses import replace

import pytest

from pems_sync import delivery, inbound, lanes
from pems_sync.client.answers import record_of
from pems_sync.models import JournalEntry, Modification, Record
from pems_sync.services.committing import commit
from pems_sync.services.people import retry_modification, withdraw_modification
from pems_sync.states import DeadReason, State
from tests.invariants import assert_applied_once, assert_invariants


@pytest.fixture
def record(engine):
    return engine.records[0]


@pytest.fixture(autouse=True)
def _whatever_happened(engine):
    yield
    assert_invariants(engine.organization)
    assert_applied_once(engine)


def under_way(engine, record, **changes):
    """A head whose request is being sent, and its claim."""
    row = engine.edit(record, **changes)
    (claim,) = engine.claim()
    return row, claim


def told(record, wire_type="RECORD_CHANGED"):
    return [e.details["changedFields"] for e in JournalEntry.objects.filter(pfa_id=record.pfa_id, wire_type=wire_type)]


# ---------------------------------------------------------------- fold


def test_a_queued_edit_takes_a_later_one_of_the_same_author_in(engine, record):
    first = engine.edit(record, model="A", areaSilo="East")
    second = engine.edit(record, model="B", category="Other")
    first, second = engine.row(first), engine.row(second)
    assert (first.state, first.superseded_by_id) == (State.SUPERSEDED, second.pk)
    assert second.changes == {"model": "B", "areaSilo": "East", "category": "Other"}
    assert second.is_head
    engine.settle()
    assert len(engine.sandbox.audit(record.pfa_id)) == 1
    assert engine.in_pems(record)["areaSilo"] == "East"


def test_a_folded_edit_keeps_the_earliest_time_the_highest_priority_and_the_oldest_base(engine, record):
    commit(membership=engine.member(), modification_ids=[engine.draft(record, model="A").pk], priority=7)
    first = Modification.objects.get(state=State.QUEUED)
    second = engine.row(engine.edit(record, model="B"))
    assert (second.queued_at, second.priority, second.rank_at) == (first.queued_at, 7, first.rank_at)
    assert second.base["model"] == record.fields["model"]


def test_a_folded_edit_is_compared_in_the_fields_of_both(engine, record):
    engine.edit(record, model="A")
    second = engine.edit(record, areaSilo="East")
    assert set(engine.row(second).base) == {"model", "areaSilo", "isDiscontinued"}
    engine.sandbox.edit(record.pfa_id, {"model": "9"})
    engine.settle()
    assert engine.state(second) is State.CONFLICTED


def test_another_author_is_never_folded_and_waits_behind(engine, record, cast):
    first, second = engine.edit(record, model="A"), engine.edit(record, by=cast.second, areaSilo="East")
    assert [engine.row(row).is_head for row in (first, second)] == [True, False]
    assert lanes.blocking_head(engine.row(second)).pk == first.pk
    assert lanes.blocking_head(engine.row(first)) is None
    assert sum(len(claim.rows) for claim in engine.claim()) == 1


def test_an_edit_and_a_delete_are_never_folded(engine, record):
    first, second = engine.edit(record, model="A"), engine.edit(record, isDiscontinued=True)
    assert [engine.state(row) for row in (first, second)] == [State.QUEUED] * 2
    engine.settle()
    assert [engine.state(row) for row in (first, second)] == [State.CONFIRMED] * 2
    assert engine.in_pems(record)["isDiscontinued"] is True


def test_an_edit_that_was_claimed_once_takes_no_fold_though_nothing_was_sent(engine, record):
    first, _ = under_way(engine, record, model="A")
    engine.expire_leases()
    second = engine.edit(record, model="B")
    assert engine.state(first) is State.QUEUED
    assert engine.row(second).changes == {"model": "B"}


def test_a_draft_at_risk_is_not_folded_into_a_sound_edit(engine, record):
    """Queued x at v4; foreign v5 changes y; the author's draft of y was made at v4. A fold would hide the clash."""
    sound = engine.edit(record, model="A")
    draft = engine.draft(record, areaSilo="East")
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "THEIRS"})
    engine.pull()
    commit(membership=engine.member(), modification_ids=[draft.pk])
    assert [engine.state(row) for row in (sound, draft)] == [State.QUEUED, State.CONFLICTED]
    engine.settle()
    assert engine.state(sound) is State.CONFIRMED
    assert engine.in_pems(record)["areaSilo"] == "THEIRS"


def test_two_edits_that_are_invalid_together_are_not_folded(engine, record):
    start, end = record.fields["forecastStart"], record.fields["forecastEnd"]
    if not start or not end or start >= end:
        pytest.skip("the seeded record has no period")
    first = engine.edit(record, forecastEnd=start)
    second = engine.edit(record, forecastStart=end)
    assert [engine.state(row) for row in (first, second)] == [State.QUEUED] * 2
    engine.settle()
    assert [engine.state(row) for row in (first, second)] == [State.CONFIRMED, State.DEAD]


# ---------------------------------------------------------------- what is stored


def test_a_queued_edit_is_not_moved_past_a_foreign_change_field_by_field(engine, record):
    """Queued x:0→1 at v4; v5 sets x=9; v6 changes y. Moving the base field by field would hide the clash."""
    row = engine.edit(record, model="1")
    engine.sandbox.edit(record.pfa_id, {"model": "9"})
    engine.pull()
    assert engine.state(row) is State.CONFLICTED, "at once, without a request"
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    engine.pull()
    engine.settle()
    assert engine.state(row) is State.CONFLICTED
    assert engine.row(row).base["model"] == record.fields["model"], "the base never moves while the row is open"
    assert engine.in_pems(record)["model"] == "9"


def test_the_expected_version_advances_while_every_base_value_stands(engine, record):
    row = engine.edit(record, model="1")
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    engine.pull()
    row = engine.row(row)
    assert (row.state, row.expected_version, row.base_version) == (State.QUEUED, record.version + 1, record.version)
    assert engine.send() == 1
    assert engine.state(row) is State.CONFIRMED
    assert engine.row(row).ledger.count() == 1, "no 409 was needed"


def test_a_group_partner_that_moved_conflicts_a_queued_edit(engine, record):
    row = engine.edit(record, monthlyRate="4242.00")
    engine.sandbox.edit(record.pfa_id, {"purchasePrice": 9})
    engine.pull()
    assert engine.state(row) is State.CONFLICTED
    assert {field["name"] for field in row.conflicts.get().fields} == {"monthlyRate", "purchasePrice"}


def test_a_foreign_change_to_our_value_converges_without_a_write(engine, record):
    row = engine.edit(record, model="1")
    engine.sandbox.edit(record.pfa_id, {"model": "1"})
    engine.pull()
    assert engine.state(row) is State.CONFIRMED
    assert engine.applied(row) == []
    row.job.refresh_from_db()
    assert row.job.finished_at is not None


def test_other_values_at_the_same_version_are_noticed_too(engine, record):
    """PEMS confirmed our model without showing the record; the next edit was made on what we then assumed of it."""
    engine.sandbox.script("no_record")
    engine.edit(record, areaSilo="East")
    engine.send()
    assumed = Record.objects.get(pk=record.pk)
    assert assumed.read_due_at is not None
    later = engine.edit(record, model="B")
    assert engine.row(later).expected_version == assumed.version
    inbound.apply(engine.organization, [replace(shown(engine, record), fields=assumed.fields | {"model": "ADJUSTED"})])
    assert Record.objects.get(pk=record.pk).fields["model"] == "ADJUSTED"
    assert engine.state(later) is State.CONFLICTED


def shown(engine, record):
    return record_of(engine.in_pems(record), organization_code=engine.organization.code)


# ---------------------------------------------------------------- lane advance and echo


def test_p_after_p_does_not_conflict_with_p(engine, record):
    """P: x 0→1 under way, then x→2."""
    first, claim = under_way(engine, record, model="1")
    second = engine.edit(record, model="2")
    delivery.deliver(claim.delivery_id)
    second = engine.row(second)
    assert (second.state, second.is_head) == (State.QUEUED, True)
    assert (second.base["model"], second.expected_version) == ("1", record.version + 1)
    engine.settle()
    assert [engine.state(row) for row in (first, second)] == [State.CONFIRMED] * 2
    assert engine.in_pems(record)["model"] == "2"


def test_p_after_p_takes_what_pems_adjusted_as_its_base(engine, record):
    _, claim = under_way(engine, record, model="1")
    second = engine.edit(record, model="2")
    engine.sandbox.script("adjust")
    delivery.deliver(claim.delivery_id)
    assert engine.row(second).base["model"] == engine.in_pems(record)["model"] != "1"
    engine.settle()
    assert engine.state(second) is State.CONFIRMED


def test_q_after_p_on_other_fields_goes_on_and_on_the_same_asks_without_a_request(engine, record, cast):
    _, claim = under_way(engine, record, model="1")
    other = engine.edit(record, by=cast.second, areaSilo="East")
    same = engine.edit(record, by=cast.lead, model="2")
    delivery.deliver(claim.delivery_id)
    assert [engine.state(row) for row in (other, same)] == [State.QUEUED, State.CONFLICTED]
    assert same.ledger.count() == 0
    engine.settle()
    assert engine.state(other) is State.CONFIRMED


def test_p_after_p_with_a_foreign_write_in_between_asks(engine, record):
    _, claim = under_way(engine, record, model="1")
    second = engine.edit(record, model="2")
    delivery.deliver(claim.delivery_id)
    engine.sandbox.edit(record.pfa_id, {"model": "9"})
    engine.settle()
    assert engine.state(second) is State.CONFLICTED


def test_p_after_p_where_the_record_moved_on_meanwhile_is_compared_with_it(engine, record):
    """Our write became v5 and its reply was lost; a foreign v6 was stored before it was proven."""
    first, claim = under_way(engine, record, model="1")
    second = engine.edit(record, model="2")
    engine.sandbox.script("lost_reply")
    delivery.deliver(claim.delivery_id)
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    engine.prove()
    row = engine.row(second)
    assert engine.state(first) is State.CONFIRMED
    assert (row.state, row.base["model"], row.expected_version) == (State.QUEUED, "1", record.version + 2)
    assert told(record) == [["areaSilo"]]
    engine.settle()
    assert engine.in_pems(record)["model"] == "2"


def test_our_own_write_that_comes_back_first_is_an_echo(engine, record):
    """The webhook of our own write usually arrives before its reply."""
    row = engine.edit(record, model="1")
    engine.sandbox.script("lost_reply")
    (claim,) = engine.claim()
    second = engine.edit(record, model="2")
    draft = engine.draft(record, category="Draft")
    delivery.deliver(claim.delivery_id)
    assert engine.state(row) is State.UNKNOWN
    engine.pull()
    assert engine.state(row) is State.CONFIRMED
    assert engine.state(second) is State.QUEUED, "P does not conflict with the echo of P"
    assert engine.row(draft).at_risk == []
    assert told(record) == []
    assert told(record, "DRAFT_AT_RISK") == []


def test_while_a_head_is_sending_inbound_stores_forward_and_classifies_only_at_settle(engine, record, cast):
    row, claim = under_way(engine, record, model="1")
    draft = engine.draft(record, by=cast.second, areaSilo="East")
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    engine.pull()
    assert Record.objects.get(pk=record.pk).version == record.version + 1, "stored forward"
    assert told(record) == []
    assert told(record, "DRAFT_AT_RISK") == []
    delivery.deliver(claim.delivery_id)
    assert engine.state(row) is State.QUEUED
    assert told(record) == [["areaSilo"]]
    assert told(record, "DRAFT_AT_RISK") == [["areaSilo"]]
    assert engine.row(draft).at_risk == ["areaSilo"]
    engine.settle()
    assert told(record) == [["areaSilo"]], "once"


def test_what_moved_is_not_told_either_while_the_outcome_is_unknown(engine, record):
    """It may still turn out to be our own write."""
    row, claim = under_way(engine, record, model="1")
    engine.sandbox.edit(record.pfa_id, {"areaSilo": "Moved"})
    engine.pull()
    engine.sandbox.script("reset_before")
    delivery.deliver(claim.delivery_id)
    assert engine.state(row) is State.UNKNOWN
    assert told(record) == []
    engine.settle()
    assert engine.state(row) is State.CONFIRMED
    assert told(record) == [["areaSilo"]]


def test_rows_handed_back_unsent_face_what_inbound_stored_meanwhile(engine, record):
    row, _ = under_way(engine, record, model="1")
    engine.sandbox.edit(record.pfa_id, {"model": "9"})
    engine.pull()
    assert engine.state(row) is State.SENDING
    engine.expire_leases()
    assert engine.state(row) is State.CONFLICTED, "a queued row whose base fell is never left queued"


def test_a_confirmed_delivery_warns_other_peoples_drafts(engine, record, cast):
    draft = engine.draft(record, by=cast.second, model="THEIRS")
    own = engine.draft(record, areaSilo="East")
    commit(membership=engine.member(), modification_ids=[own.pk])
    mine = engine.draft(record, model="MINE")
    commit(membership=engine.member(), modification_ids=[mine.pk])
    engine.settle()
    assert told(record, "DRAFT_AT_RISK") == [["model"]]
    assert engine.row(draft).at_risk == ["model"]
    assert JournalEntry.objects.get(wire_type="DRAFT_AT_RISK").on_behalf_of == "rio-second"


def test_my_own_confirmed_edit_does_not_put_my_draft_at_risk(engine, record):
    _, claim = under_way(engine, record, model="1")
    draft = engine.draft(record, model="2")
    delivery.deliver(claim.delivery_id)
    draft = engine.row(draft)
    assert (draft.at_risk, draft.base["model"], draft.expected_version) == ([], "1", record.version + 1)


# ---------------------------------------------------------------- what blocks


def test_a_conflicted_head_blocks_its_lane_and_is_named(engine, record, cast):
    head = engine.edit(record, model="1")
    behind = engine.edit(record, by=cast.second, areaSilo="East")
    engine.sandbox.edit(record.pfa_id, {"model": "9"})
    engine.settle()
    assert [engine.state(row) for row in (head, behind)] == [State.CONFLICTED, State.QUEUED]
    assert lanes.blocking_head(engine.row(behind)).pk == head.pk


def test_a_rejected_head_frees_its_lane(engine, record, cast):
    head = engine.edit(record, model="1")
    behind = engine.edit(record, by=cast.second, areaSilo="East")
    engine.sandbox.script("item_422")
    engine.settle()
    assert [engine.state(row) for row in (head, behind)] == [State.DEAD, State.CONFIRMED]


def test_a_poisoned_head_blocks_its_lane_until_a_person_looks(engine, record, cast):
    head = engine.edit(record, model="1")
    behind = engine.edit(record, by=cast.second, areaSilo="East")
    Modification.objects.filter(pk=head.pk).update(changes={"nope": 1})
    engine.settle()
    assert (engine.state(head), engine.row(head).dead_reason) == (State.DEAD, DeadReason.POISON)
    assert engine.state(behind) is State.QUEUED
    assert engine.send() == 0
    Modification.objects.filter(pk=head.pk).update(changes={"model": "1"})
    retry_modification(membership=engine.member(), modification=head)
    engine.settle()
    assert [engine.state(row) for row in (head, behind)] == [State.CONFIRMED] * 2


def test_a_withdrawn_head_frees_its_lane(engine, record, cast):
    head = engine.edit(record, model="1")
    behind = engine.edit(record, by=cast.second, areaSilo="East")
    withdraw_modification(membership=engine.member(), modification=head)
    assert engine.row(behind).is_head
    engine.settle()
    assert engine.state(behind) is State.CONFIRMED
    assert engine.in_pems(record)["model"] == record.fields["model"]


def test_a_replayed_dead_letter_joins_the_tail(engine, record, cast):
    dead = engine.edit(record, model="1")
    engine.sandbox.script("item_422")
    engine.send()
    waiting = engine.edit(record, by=cast.second, areaSilo="East")
    retry_modification(membership=engine.member(), modification=dead)
    assert [engine.row(row).is_head for row in (waiting, dead)] == [True, False]
    engine.settle()
    assert [engine.state(row) for row in (waiting, dead)] == [State.CONFIRMED] * 2


def test_a_dead_letter_replayed_behind_a_write_under_way_is_compared_when_that_settled(engine, record):
    dead = engine.edit(record, model="1")
    engine.sandbox.script("item_422")
    engine.send()
    _, claim = under_way(engine, record, model="2")
    engine.sandbox.script("lost_reply")
    delivery.deliver(claim.delivery_id)
    inbound_sees(engine, record)
    retry_modification(membership=engine.member(), modification=dead)
    assert engine.state(dead) is State.QUEUED
    engine.settle()
    assert engine.state(dead) is State.CONFLICTED, "what was confirmed meanwhile is newer: a person decides"
    assert engine.in_pems(record)["model"] == "2"


def inbound_sees(engine, record):
    """The echo of a write under way, stored without being weighed as its proof."""
    seen = shown(engine, record)
    Record.objects.filter(pk=record.pk).update(version=seen.version, fields=seen.fields, content_hash=seen.content_hash)
