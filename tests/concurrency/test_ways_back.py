"""Two people at once on the way back: one job is undone once, one approval is decided once."""

from __future__ import annotations

from pems_sync.errors import AlreadyDecidedError, ApprovalNeededError, ApprovalOpenError, DomainError
from pems_sync.models import Approval, Modification, Organization
from pems_sync.services.approving import decide
from pems_sync.services.committing import commit
from pems_sync.services.rollback import roll_back
from pems_sync.services.undoing import AlreadyUndoneError, undo
from tests.concurrency.threads import together
from tests.invariants import assert_applied_once, assert_invariants


def told(act):
    """What it returned, or the kind of refusal."""
    try:
        return act()
    except DomainError as error:
        return type(error)


def test_a_job_undone_by_two_people_is_undone_once(engine, cast):
    rows = [engine.draft(record, model="NEW") for record in engine.records[:3]]
    job = commit(membership=engine.member(), modification_ids=[row.pk for row in rows]).job
    engine.settle()
    job.refresh_from_db()
    members = [engine.member(user) for user in (cast.lead, cast.admin)]
    said = together(*[lambda each=each: told(lambda: undo(membership=each, job=job, reason="r")) for each in members])
    assert said.count(AlreadyUndoneError) == 1
    assert Modification.objects.filter(job__undoes=job).count() == 3
    engine.settle()
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_what_two_people_ask_for_at_once_is_asked_and_carried_out_once(engine, cast, rio):
    Organization.objects.filter(pk=rio.pk).update(second_approval=True, money_threshold=1)
    record = engine.records[0]
    engine.sandbox.edit(record.pfa_id, {"monthlyRate": 98765.43})
    wanted = {"pfa_id": record.pfa_id, "version": record.version, "reason": "r"}
    lead = engine.member(cast.lead)
    said = together(*[lambda: told(lambda: roll_back(membership=lead, **wanted))] * 2)
    assert sorted(each.__name__ for each in said) == [ApprovalNeededError.__name__, ApprovalOpenError.__name__]
    approval, admin = Approval.objects.get(), engine.member(cast.admin)
    answers = together(
        *[
            lambda agree=agree: told(lambda: decide(membership=admin, approval=approval, approve=agree, comment=""))
            for agree in (True, True, False)
        ]
    )
    assert answers.count(AlreadyDecidedError) == 2
    assert Modification.objects.count() == int(Approval.objects.get().approved)
    assert_invariants(engine.organization)
