"""write-sync: drafts become committed modifications, in one transaction with their journal entries."""

from uuid import uuid4

import pytest

from pems_sync import delivery
from pems_sync.models import Job, JournalEntry, Membership, Modification, Record
from pems_sync.services import committing
from pems_sync.services.committing import commit
from pems_sync.states import State
from tests.invariants import assert_invariants


def test_all_my_drafts_or_those_named_are_queued_in_one_job(engine, cast):
    one, two, three = (engine.draft(record, model="A") for record in engine.records[:3])
    others = engine.draft(engine.records[3], by=cast.second, model="A")
    first = commit(membership=engine.member(), modification_ids=[two.pk], reason="named", priority=3)
    rest = commit(membership=engine.member())
    assert (first.queued, rest.queued) == (1, 2)
    assert {engine.state(row) for row in (one, two, three)} == {State.QUEUED}
    assert engine.state(others) is State.DRAFT
    row = engine.row(two)
    assert (row.reason, row.priority, row.job, row.authorised_by) == ("named", 3, first.job, cast.planner)
    assert (row.queued_at - row.rank_at).total_seconds() == 180
    assert engine.row(one).reason == "a test"
    assert_invariants(engine.organization)


def test_with_nothing_to_queue_there_is_no_job(engine, cast):
    theirs = engine.draft(engine.records[0], by=cast.second, model="A")
    unknown = uuid4()
    result = commit(membership=engine.member(), modification_ids=[theirs.pk, unknown])
    assert (result.job, result.queued, set(result.rejected)) == (None, 0, {theirs.pk, unknown})
    assert not Job.objects.filter(kind="write_sync").exists()


def test_a_draft_that_breaks_a_rule_stays_a_draft_and_is_reported(engine):
    bad, good = engine.draft(engine.records[0], forecastEnd="2031-01-01"), engine.draft(engine.records[1], model="A")
    Modification.objects.filter(pk=bad.pk).update(changes={"forecastEnd": "1999-01-01"})
    result = commit(membership=engine.member())
    assert [error["code"] for error in result.rejected[bad.pk]] == ["INVALID_DATE_ORDER"]
    assert [engine.state(row) for row in (bad, good)] == [State.DRAFT, State.QUEUED]


def test_a_right_lost_since_the_draft_was_saved_is_reported(engine, cast):
    draft = engine.draft(engine.records[0], by=cast.lead, actualStart="2026-01-01")
    Membership.objects.filter(user=cast.lead).update(permissions=["read", "draft", "sync"])
    result = commit(membership=engine.member(cast.lead))
    assert [error["code"] for error in result.rejected[draft.pk]] == ["FIELD_NOT_EDITABLE"]


def test_more_than_a_transaction_holds_go_in_several_and_stay_one_job(engine, monkeypatch):
    monkeypatch.setattr(committing, "MOST_IN_ONE_TRANSACTION", 2)
    rows = [engine.draft(record, model="A") for record in engine.records[:5]]
    result = commit(membership=engine.member())
    assert result.queued == 5
    result.job.refresh_from_db()
    assert result.job.total == 5
    assert {engine.row(row).job_id for row in rows} == {result.job.pk}
    assert_invariants(engine.organization)


def test_a_job_whose_edit_was_folded_into_a_later_one_is_finished(engine):
    first = engine.edit(engine.records[0], model="A")
    engine.edit(engine.records[0], model="B")
    assert Job.objects.get(pk=first.job_id).finished_at is not None


def test_a_draft_committed_by_somebody_faster_is_reported_and_not_queued_twice(engine, monkeypatch):
    """A double click: the second request has chosen its drafts when the first one's transaction ends."""
    draft = engine.draft(engine.records[0], model="A")
    ids = [draft.pk]
    commit(membership=engine.member())
    late = committing._commit_some(engine.member(), ids, 0, "", None)
    assert (late.queued, late.job) == (0, None)
    assert late.rejected[draft.pk][0]["code"] == "NOT_A_DRAFT"
    assert JournalEntry.objects.filter(modification_id=draft.pk, kind="modification_queued").count() == 1


def test_a_draft_behind_a_write_under_way_is_compared_when_that_settles(engine, cast):
    record = engine.records[0]
    engine.edit(record, model="1")
    draft = engine.draft(record, by=cast.second, model="2")
    (claim,) = engine.claim()
    engine.sandbox.script("lost_reply")
    delivery.deliver(claim.delivery_id)
    seen = Record.objects.get(pk=record.pk)
    Record.objects.filter(pk=record.pk).update(version=seen.version + 1, fields={**seen.fields, "model": "1"})
    commit(membership=engine.member(cast.second))
    assert engine.state(draft) is State.QUEUED
    engine.settle()
    assert engine.state(draft) is State.CONFLICTED


@pytest.mark.parametrize("broken", [0, 2])
def test_a_receiver_that_raises_for_one_draft_at_risk_stops_that_one_alone(engine, failing_conflicts, broken):
    records = engine.records[:3]
    drafts = [engine.draft(record, model="A") for record in records]
    engine.sandbox.edit_many([{"pfaId": record.pfa_id, "changes": {"model": "T"}} for record in records])
    engine.pull()
    failing_conflicts(records[broken].pfa_id)
    commit(membership=engine.member())
    states = [engine.state(draft) for draft in drafts]
    assert states.pop(broken) is State.DEAD
    assert states == [State.CONFLICTED] * 2
    assert_invariants(engine.organization)
