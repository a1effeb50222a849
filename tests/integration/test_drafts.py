"""A planner edits: one draft per author and record, each field with the base it was changed from."""

import pytest

from pems_sync.errors import InvalidChangesError, NotFoundError, StaleBaseError, UnknownVersionError
from pems_sync.inbound import mark_gone
from pems_sync.models import JournalEntry, Modification, Record
from pems_sync.models.modification import Operation
from pems_sync.services.committing import commit
from pems_sync.services.drafts import DraftInput, discard_drafts, save_draft, save_drafts
from pems_sync.states import State
from tests.invariants import assert_invariants


@pytest.fixture
def record(engine):
    return engine.records[0]


def save(engine, record, changes, version=None, by=None, reason=""):
    version = record.version if version is None else version
    return save_draft(membership=engine.member(by), wanted=DraftInput(record.pfa_id, changes, version, reason))


def test_a_draft_is_merged_and_each_author_has_their_own(engine, record, cast):
    first = save(engine, record, {"model": "A"}, reason="one").modification
    second = save(engine, record, {"areaSilo": "East"}).modification
    other = save(engine, record, {"model": "B"}, by=cast.second).modification
    assert first.pk == second.pk != other.pk
    assert engine.row(first).changes == {"model": "A", "areaSilo": "East"}
    assert engine.row(first).reason == "one"
    assert [entry.after for entry in JournalEntry.objects.filter(modification_id=first.pk).order_by("position")] == [
        {"model": "A"},
        {"model": "A", "areaSilo": "East"},
    ]


def test_the_base_of_a_group_holds_its_partners(engine, record):
    row = save(engine, record, {"forecastEnd": "2031-01-01"}).modification
    assert row.base == {name: record.fields[name] for name in ("forecastStart", "forecastEnd", "isDiscontinued")}


def test_a_field_sent_again_takes_its_base_from_the_stated_version_and_the_others_keep_theirs(engine, record):
    draft = save(engine, record, {"model": "A", "areaSilo": "East"}).modification
    engine.sandbox.edit(record.pfa_id, {"model": "THEIRS", "areaSilo": "THEIRS"})
    engine.pull()
    assert set(engine.row(draft).at_risk) == {"model", "areaSilo"}
    save(engine, record, {"model": "B"}, version=record.version + 1)
    draft = engine.row(draft)
    assert (draft.base["model"], draft.base["areaSilo"]) == ("THEIRS", record.fields["areaSilo"])
    assert draft.at_risk == ["areaSilo"]
    save(engine, record, {"areaSilo": "East"}, version=record.version + 1)
    draft = engine.row(draft)
    assert (draft.at_risk, draft.expected_version) == ([], record.version + 1)


def test_a_stale_base_is_refused_only_where_a_field_of_mine_or_its_partner_moved(engine, record):
    engine.sandbox.edit(record.pfa_id, {"model": "THEIRS", "purchasePrice": 7})
    engine.pull()
    with pytest.raises(StaleBaseError) as refused:
        save(engine, record, {"model": "A"})
    assert refused.value.details["fields"] == ["model"]
    assert refused.value.details["record"].version == record.version + 1
    with pytest.raises(StaleBaseError):
        save(engine, record, {"monthlyRate": "1.00"})
    draft = save(engine, record, {"areaSilo": "East"}).modification
    assert (draft.base_version, draft.expected_version) == (record.version, record.version + 1)


@pytest.mark.parametrize("version", [0, -1, 99_999])
def test_an_unknown_or_future_version_is_refused(engine, record, version):
    with pytest.raises(UnknownVersionError):
        save(engine, record, {"model": "A"}, version=version)


def test_a_record_of_another_organization_or_one_that_is_gone_does_not_exist(engine, record, cast):
    with pytest.raises(NotFoundError):
        save_draft(membership=engine.member(), wanted=DraftInput("PFA-0", {"model": "A"}, 1))
    Record.objects.filter(pk=record.pk).update(deleted_at=record.changed_at)
    with pytest.raises(NotFoundError):
        save(engine, record, {"model": "A"})


@pytest.mark.parametrize(
    "changes", [{}, {"nope": 1}, {"forecastEnd": "1999-01-01"}, {"isDiscontinued": True, "model": "A"}]
)
def test_what_is_broken_is_refused_and_nothing_is_kept(engine, record, changes):
    with pytest.raises(InvalidChangesError):
        save(engine, record, changes)
    assert not Modification.objects.exists()


def test_a_draft_becomes_a_delete_only_alone(engine, record):
    save(engine, record, {"model": "A"})
    with pytest.raises(InvalidChangesError, match="isDiscontinued"):
        save(engine, record, {"isDiscontinued": True})
    discard_drafts(membership=engine.member())
    assert save(engine, record, {"isDiscontinued": True}).modification.operation == Operation.DELETE


def test_a_record_already_invalid_in_pems_can_be_edited_elsewhere(engine, record):
    engine.sandbox.edit(record.pfa_id, {"forecastStart": "2031-01-01", "forecastEnd": "2030-01-01"})
    engine.pull()
    saved = save(engine, record, {"model": "A"}, version=record.version + 1)
    assert [warning.field for warning in saved.warnings] == ["forecastEnd"]
    with pytest.raises(InvalidChangesError):
        save(engine, record, {"forecastStart": "2031-02-01"}, version=record.version + 1)


def test_several_drafts_each_succeed_or_fail_on_their_own(engine):
    one, two = engine.records[:2]
    results = save_drafts(
        membership=engine.member(),
        wanted=[
            DraftInput(one.pfa_id, {"model": "A"}, one.version),
            DraftInput("PFA-0", {"model": "A"}, 1),
            DraftInput(two.pfa_id, {"nope": "A"}, two.version),
            DraftInput(one.pfa_id, {"areaSilo": "East"}, one.version),
        ],
    )
    assert [type(result).__name__ for result in results] == [
        "SavedDraft",
        "NotFoundError",
        "InvalidChangesError",
        "SavedDraft",
    ]
    assert Modification.objects.get().changes == {"model": "A", "areaSilo": "East"}


def test_a_draft_at_risk_is_told_once_and_again_when_more_moves(engine, record):
    draft = engine.draft(record, model="A", areaSilo="East")
    for changes in ({"model": "T"}, {"category": "T"}, {"model": "U"}, {"areaSilo": "T"}):
        engine.sandbox.edit(record.pfa_id, changes)
        engine.pull()
    told = [e.details["changedFields"] for e in JournalEntry.objects.filter(kind="draft_at_risk").order_by("position")]
    assert [sorted(fields) for fields in told] == [["model"], ["areaSilo", "model"]]
    assert engine.row(draft).base["model"] == record.fields["model"]


def test_a_draft_no_longer_at_risk_is_as_before(engine, record):
    draft = engine.draft(record, model="A")
    engine.sandbox.edit(record.pfa_id, {"model": "T"})
    engine.pull()
    engine.sandbox.edit(record.pfa_id, {"model": record.fields["model"]})
    engine.pull()
    draft = engine.row(draft)
    assert (draft.at_risk, draft.expected_version) == ([], record.version + 2)


def test_committing_a_draft_at_risk_makes_a_conflict_and_is_never_refused(engine, record):
    draft = engine.draft(record, model="A")
    engine.sandbox.edit(record.pfa_id, {"model": "T"})
    engine.pull()
    result = commit(membership=engine.member())
    assert (result.queued, result.rejected) == (1, {})
    assert engine.state(draft) is State.CONFLICTED
    result.job.refresh_from_db()
    assert result.job.finished_at is not None, "nothing is left for the machine to do"
    assert_invariants(engine.organization)


def test_a_draft_of_a_record_that_vanished_becomes_a_conflict_when_committed(engine, record):
    draft = engine.draft(record, model="A")
    mark_gone(record)
    assert engine.row(draft).at_risk == ["isDiscontinued"]
    commit(membership=engine.member())
    assert engine.state(draft) is State.CONFLICTED
    assert draft.conflicts.get().kind == "edit_deleted"


def test_discarded_drafts_are_withdrawn(engine, record, cast):
    mine, others = engine.draft(record, model="A"), engine.draft(record, by=cast.second, model="B")
    with pytest.raises(NotFoundError):
        discard_drafts(membership=engine.member(), pfa_id="PFA-0")
    assert discard_drafts(membership=engine.member(), pfa_id=record.pfa_id) == 1
    assert discard_drafts(membership=engine.member()) == 0
    assert [engine.state(row) for row in (mine, others)] == [State.WITHDRAWN, State.DRAFT]
    again = engine.draft(record, model="C")
    assert again.pk != mine.pk
    assert_invariants(engine.organization)
