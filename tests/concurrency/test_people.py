"""People who meet: in one conflict, in one draft, in one journal."""

from contextlib import suppress

from conflicts.models import Conflict, Resolution
from conflicts.services import AlreadyResolvedError, resolve
from pems_sync import events
from pems_sync.journal import first_broken, unit_of_work
from pems_sync.models import JournalEntry, Modification
from pems_sync.services.committing import commit
from pems_sync.services.drafts import DraftInput, save_draft
from pems_sync.states import State
from tests.concurrency.threads import together
from tests.invariants import assert_applied_once, assert_invariants


def test_two_people_resolving_one_conflict_one_decides_and_the_other_is_told(engine, cast):
    for record in engine.records[:4]:
        row = engine.edit(record, model="OURS")
        engine.sandbox.edit(record.pfa_id, {"model": "THEIRS"})
        engine.settle()
        conflict = row.conflicts.get()

        def decide(user, resolution, conflict=conflict):
            try:
                return resolve(membership=engine.member(user), conflict=conflict, resolution=resolution).requeued
            except AlreadyResolvedError:
                return "too late"

        said = together(
            lambda decide=decide: decide(cast.planner, Resolution.USE_LOCAL),
            lambda decide=decide: decide(cast.lead, Resolution.USE_PEMS),
        )
        assert said.count("too late") == 1
        assert engine.state(row) is (State.WITHDRAWN if said[0] == "too late" else State.QUEUED)
    assert Conflict.objects.unresolved().count() == 0
    engine.settle()
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_two_tabs_that_make_the_first_draft_of_a_record_at_once_make_one(engine):
    for record in engine.records[:5]:

        def save(field, record=record):
            wanted = DraftInput(record.pfa_id, {field: "1"}, record.version)
            return save_draft(membership=engine.member(), wanted=wanted).modification.pk

        ids = together(*[lambda field=field, save=save: save(field) for field in ("model", "areaSilo", "category")])
        assert len(set(ids)) == 1
        assert Modification.objects.get(pk=ids[0]).changes == {"model": "1", "areaSilo": "1", "category": "1"}


def test_a_double_click_on_commit_queues_once(engine):
    for record in engine.records[:4]:
        engine.draft(record, model="1")
    member = engine.member()
    results = together(*[lambda: commit(membership=member)] * 3)
    assert sum(result.queued for result in results) == 4
    assert set(Modification.objects.values_list("state", flat=True)) == {State.QUEUED}
    assert_invariants(engine.organization)


class Abandoned(Exception):
    """A transaction that ends without a commit."""


def test_numbers_are_dense_and_the_chain_holds_under_concurrent_writers(rio, portarthur):
    """Some write to both organizations in one transaction, in either order; some roll back; the heads are new."""

    def write(number):
        for each in range(12):
            order = (rio, portarthur, None) if (number + each) % 2 else (None, portarthur, rio)
            with suppress(Abandoned), unit_of_work() as work:
                for organization in order:
                    org_id = organization.pk if organization else None
                    work.record(events.DraftSaved(organization_id=org_id, actor=f"writer-{number}"))
                    if organization:
                        work.record(events.QueueResumed(organization_id=org_id, actor=f"writer-{number}"))
                if each % 6 == 5:
                    raise Abandoned

    together(*[lambda number=number: write(number) for number in range(6)])
    for organization, entries in ((rio, 120), (portarthur, 120), (None, 60)):
        chain = JournalEntry.objects.filter(organization=organization).order_by("position")
        assert [entry.position for entry in chain] == list(range(1, entries + 1))
        assert first_broken(chain) is None
        seqs = [entry.seq for entry in chain if entry.seq is not None]
        assert seqs == list(range(1, len(seqs) + 1))
