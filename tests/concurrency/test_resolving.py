"""People and PEMS who meet in one conflict: one decides, on what they saw; nothing is sent that nobody decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from conflicts.bulk import Selection, apply, preview
from conflicts.errors import AlreadyResolvedError, UndoTooLateError
from conflicts.freshness import refreshed
from conflicts.models import Conflict, Resolution
from conflicts.services import resolve
from conflicts.undoing import undo
from pems_sync.errors import ConflictMovedError
from pems_sync.models import Modification
from pems_sync.states import State
from tests.concurrency.threads import together
from tests.invariants import assert_applied_once, assert_invariants


def clash(engine, record, **ours) -> Conflict:
    row = engine.edit(record, **(ours or {"model": "OURS"}))
    engine.sandbox.edit(record.pfa_id, {"model": "THEIRS"})
    engine.settle()
    return row.conflicts.get()


def told(act: Callable[[], object], *errors: type[Exception]) -> object:
    try:
        return act()
    except errors as error:
        return type(error)


def test_of_many_who_merge_at_once_one_decides_and_the_others_are_told(engine, cast):
    people = (cast.planner, cast.second, cast.lead, cast.admin)
    for record in engine.records[:3]:
        conflict = clash(engine, record)

        def merge(user, conflict=conflict):
            return resolve(
                membership=engine.member(user), conflict=conflict, resolution=Resolution.MERGE,
                merged_data={"model": user.username}, seen_pems_version=conflict.pems_version,
            ).conflict.resolved_by  # fmt: skip

        said = together(
            *[lambda user=user, merge=merge: told(lambda: merge(user), AlreadyResolvedError) for user in people]
        )
        assert Counter(said)[AlreadyResolvedError] == len(people) - 1
        winner = next(each for each in said if each is not AlreadyResolvedError)
        assert engine.row(conflict.modification).changes == {"model": winner.username}
        assert engine.row(conflict.modification).authorised_by == winner
    engine.settle()
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_pems_moving_while_somebody_decides_is_seen_before_or_after_and_never_lost(engine):
    """K5: either the decision met the new values and was refused, or the write meets them and asks again."""
    for number, record in enumerate(engine.records[:6]):
        conflict = clash(engine, record)
        engine.sandbox.edit(record.pfa_id, {"model": f"NEWER-{number}"})

        def decide(conflict=conflict):
            return resolve(
                membership=engine.member(), conflict=conflict, resolution=Resolution.MERGE,
                merged_data={"model": "BOTH"}, seen_pems_version=conflict.pems_version,
            )  # fmt: skip

        together(lambda decide=decide: told(decide, ConflictMovedError), engine.pull)
        engine.settle()
        assert engine.state(conflict.modification) is State.CONFLICTED
        assert engine.in_pems(record)["model"] == f"NEWER-{number}"
        open_one = Conflict.objects.unresolved().get(modification=conflict.modification)
        assert open_one.pems_version in (conflict.pems_version, conflict.pems_version + 1)
        assert refreshed(open_one).fields[0]["theirs"] == f"NEWER-{number}"
        assert engine.applied(engine.row(conflict.modification)) == []
    assert_invariants(engine.organization)


def test_an_undo_that_meets_a_worker_comes_before_it_or_not_at_all(engine):
    for record in engine.records[:6]:
        conflict = clash(engine, record)
        resolve(membership=engine.member(), conflict=conflict, resolution=Resolution.USE_LOCAL)
        said, _ = together(
            lambda conflict=conflict: told(
                lambda: undo(membership=engine.member(), conflict=conflict), UndoTooLateError
            ),
            engine.send,
        )
        engine.settle()
        undone = said is not UndoTooLateError
        assert engine.state(conflict.modification) is (State.CONFLICTED if undone else State.CONFIRMED)
        assert engine.in_pems(record)["model"] == ("THEIRS" if undone else "OURS")
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_two_who_take_a_withdrawal_back_make_one_successor(engine, cast):
    conflict = clash(engine, engine.records[0])
    resolve(membership=engine.member(), conflict=conflict, resolution=Resolution.USE_PEMS)

    def take_back(user):
        with suppress(UndoTooLateError):
            undo(membership=engine.member(user), conflict=conflict)

    together(lambda: take_back(cast.planner), lambda: take_back(cast.lead))
    rows = Modification.objects.filter(record=engine.records[0])
    assert sorted(rows.values_list("state", flat=True)) == [State.CONFLICTED, State.WITHDRAWN]
    assert_invariants(engine.organization)


def test_two_who_apply_the_same_preview_apply_each_conflict_once(engine, cast):
    conflicts = [clash(engine, record) for record in engine.records[:6]]
    shown = [
        preview(membership=engine.member(user), selection=Selection(), resolution=resolution)
        for user, resolution in ((cast.planner, Resolution.USE_LOCAL), (cast.lead, Resolution.USE_PEMS))
    ]
    results = together(
        lambda: apply(membership=engine.member(cast.planner), token=shown[0].token),
        lambda: apply(membership=engine.member(cast.lead), token=shown[1].token),
    )
    applied = [pk for result in results for pk in result.applied]
    assert sorted(applied) == sorted(each.pk for each in conflicts)
    assert not any(result.failed for result in results)
    assert {reason for result in results for reason in result.skipped.values()} <= {"resolved since the preview"}
    assert_invariants(engine.organization)
