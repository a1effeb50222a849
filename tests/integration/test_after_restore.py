"""A database from a backup, while PEMS moved on (PROTOCOL.md, Restore): nothing in it is lost or written twice.

The backup is a savepoint: what the engine does behind it reaches the real PEMS, and is then rolled back here.
"""

import asyncio
import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from conflicts.models import Conflict, Resolution
from conflicts.services import resolve
from pems_sync import delivery, inbound, scheduling, sweeping
from pems_sync.api.status import is_paused
from pems_sync.clock import database_now
from pems_sync.errors import ConflictMovedError
from pems_sync.inbound.pages import Reader
from pems_sync.models import (
    Attempt,
    Connection,
    InboundState,
    JournalEntry,
    JournalHead,
    Modification,
    Organization,
    Record,
)
from pems_sync.services.committing import commit
from pems_sync.services.people import pause, replay_dead_letters
from pems_sync.services.restarting import restart
from pems_sync.states import State
from pems_sync.store import redis_store
from realtime.reading import restored_at_seq
from tests.integration.realtime_cast import Listener, happen, path_for, seqs
from tests.invariants import assert_invariants


@contextmanager
def lost():
    """What happens in here is not in the backup."""
    backup = transaction.savepoint()
    yield
    transaction.savepoint_rollback(backup)


def after_restore(*words):
    said = StringIO()
    call_command("after_restore", *words, stdout=said)
    return json.loads(said.getvalue().splitlines()[-1])


def go_on(engine):
    """From the restored database until nothing moves by machine any more."""
    after_restore()
    sweep(engine)
    engine.settle()


def sweep(engine):
    inbound.pull(Organization.objects.get(pk=engine.organization.pk), full=True)


def written(engine, record):
    """What PEMS applied for us, in order."""
    return [entry["changes"] for entry in engine.sandbox.audit(record.pfa_id) if entry["source"] == "api"]


def closed(engine):
    return Organization.objects.get(pk=engine.organization.pk).restored_at is not None


def in_doubt(engine, record, **changes):
    """An edit that was sent, with an unknown outcome, and landed."""
    row = engine.edit(record, **changes)
    engine.sandbox.script("lost_reply", pfaId=record.pfa_id)
    engine.send()
    assert engine.state(row) is State.UNKNOWN
    return row


def test_an_edit_that_landed_after_the_backup_is_confirmed_and_not_sent_again(engine):
    record = engine.records[0]
    row = engine.edit(record, model="1")
    with lost():
        engine.settle()
        assert engine.state(row) is State.CONFIRMED
    go_on(engine)
    assert engine.state(row) is State.CONFIRMED
    assert written(engine, record) == [{"model": "1"}]
    assert_invariants(engine.organization)


def test_an_edit_that_never_left_is_sent_once_and_burns_no_attempt(engine):
    record = engine.records[0]
    row = engine.edit(record, model="1")
    go_on(engine)
    row = engine.row(row)
    assert (row.state, row.attempts, written(engine, record)) == (State.CONFIRMED, 0, [{"model": "1"}])
    assert_invariants(engine.organization)


def test_an_edit_that_landed_and_was_reverted_in_pems_is_left_to_a_person(engine):
    """Sent again it would undo what somebody decided in PEMS: its base stands, so only the exposure tells."""
    record = engine.records[0]
    row = engine.edit(record, model="1")
    with lost():
        engine.settle()
        engine.sandbox.edit(record.pfa_id, {"model": record.fields["model"]})
    go_on(engine)
    assert engine.state(row) is State.CONFLICTED
    assert written(engine, record) == [{"model": "1"}]
    assert_invariants(engine.organization)


def test_an_edit_under_a_change_elsewhere_goes_on(engine):
    record = engine.records[0]
    row = engine.edit(record, model="1")
    with lost():
        engine.sandbox.edit(record.pfa_id, {"areaSilo": "East"})
    go_on(engine)
    assert (engine.state(row), written(engine, record)) == (State.CONFIRMED, [{"model": "1"}])


def test_a_lane_that_never_left_is_written_in_order_once_each(engine, cast):
    record = engine.records[0]
    rows = [engine.edit(record, model="1"), engine.edit(record, by=cast.second, areaSilo="East")]
    go_on(engine)
    assert [engine.state(row) for row in rows] == [State.CONFIRMED, State.CONFIRMED]
    assert written(engine, record) == [{"model": "1"}, {"areaSilo": "East"}]
    assert_invariants(engine.organization)


def test_the_same_field_twice_in_a_lane_head_landed_the_next_goes_on_from_it(engine):
    """The one version PEMS made is the head's own write: what stood behind it cannot have come after."""
    record = engine.records[0]
    head = in_doubt(engine, record, model="1")
    behind = engine.edit(record, model="2")
    go_on(engine)
    assert [engine.state(row) for row in (head, behind)] == [State.CONFIRMED, State.CONFIRMED]
    assert written(engine, record) == [{"model": "1"}, {"model": "2"}]
    assert_invariants(engine.organization)


def test_a_lane_that_landed_as_a_whole_is_not_written_again(engine):
    record = engine.records[0]
    head = in_doubt(engine, record, model="1")
    behind = engine.edit(record, areaSilo="East")
    with lost():
        engine.settle()
        assert written(engine, record) == [{"model": "1"}, {"areaSilo": "East"}]
    go_on(engine)
    assert [engine.state(row) for row in (head, behind)] == [State.CONFIRMED, State.CONFIRMED]
    assert written(engine, record) == [{"model": "1"}, {"areaSilo": "East"}]
    assert_invariants(engine.organization)


def test_the_next_of_a_lane_landed_and_was_reverted_so_a_person_is_asked(engine):
    """Head confirmed at a version beyond its own write: as an ordinary successor the next would be rebased and sent."""
    record = engine.records[0]
    head = in_doubt(engine, record, model="1")
    behind = engine.edit(record, areaSilo="East")
    with lost():
        engine.settle()
        engine.sandbox.edit(record.pfa_id, {"areaSilo": record.fields["areaSilo"]})
    go_on(engine)
    assert [engine.state(row) for row in (head, behind)] == [State.CONFIRMED, State.CONFLICTED]
    assert written(engine, record) == [{"model": "1"}, {"areaSilo": "East"}]
    assert_invariants(engine.organization)


def test_a_head_overwritten_by_the_next_of_its_lane_asks_and_the_next_is_not_written_again(engine):
    record = engine.records[0]
    head = in_doubt(engine, record, model="1")
    behind = engine.edit(record, model="2")
    with lost():
        engine.settle()
    go_on(engine)
    assert [engine.state(row) for row in (head, behind)] == [State.CONFLICTED, State.QUEUED]
    conflict = Conflict.objects.unresolved().get()
    resolve(membership=engine.member(), conflict=conflict, resolution=Resolution.USE_PEMS)
    engine.settle()
    assert [engine.state(row) for row in (head, behind)] == [State.WITHDRAWN, State.CONFIRMED]
    assert written(engine, record) == [{"model": "1"}, {"model": "2"}]
    assert_invariants(engine.organization)


def test_behind_a_head_nothing_is_folded_rebased_or_withdrawn_until_it_was_looked_at(engine):
    record = engine.records[0]
    in_doubt(engine, record, model="1")
    behind = engine.edit(record, areaSilo="East")
    after_restore()
    assert engine.row(behind).exposed
    later = engine.edit(record, areaSilo="West")
    sweep(engine)
    assert engine.row(behind).state == State.QUEUED
    engine.settle()
    assert [engine.state(row) for row in (behind, later)] == [State.CONFIRMED, State.CONFIRMED]
    assert written(engine, record) == [{"model": "1"}, {"areaSilo": "East"}, {"areaSilo": "West"}]


def test_a_retried_edit_that_was_rebased_before_the_backup_is_judged_by_where_it_stood(engine):
    """Its last attempt was at an older version: what PEMS did in between is known, and proves nothing against it."""
    record = engine.records[0]
    row = engine.edit(record, model="1")
    engine.sandbox.script("status_423", pfaId=record.pfa_id)
    engine.send()
    engine.sandbox.edit_many([{"pfaId": record.pfa_id, "changes": {"areaSilo": place}} for place in ("East", "West")])
    engine.pull()
    assert engine.row(row).expected_version == record.version + 2
    assert Attempt.objects.get(modification=row).version_sent == record.version
    go_on(engine)
    assert (engine.state(row), written(engine, record)) == (State.CONFIRMED, [{"model": "1"}])


def clash(engine):
    record = engine.records[0]
    row = engine.edit(record, model="OURS")
    engine.sandbox.edit(record.pfa_id, {"model": "THEIRS"})
    engine.settle()
    assert engine.state(row) is State.CONFLICTED
    return record, row, Conflict.objects.unresolved().get()


def test_a_conflict_that_was_resolved_and_written_is_confirmed_without_asking(engine):
    record, row, conflict = clash(engine)
    with lost():
        resolve(membership=engine.member(), conflict=conflict, resolution=Resolution.USE_LOCAL)
        engine.settle()
    go_on(engine)
    assert (engine.state(row), written(engine, record)) == (State.CONFIRMED, [{"model": "OURS"}])
    conflict.refresh_from_db()
    assert (conflict.resolution, conflict.decided) == (Resolution.USE_LOCAL, {"model": "OURS"})
    assert_invariants(engine.organization)


def test_a_conflict_nobody_resolved_stays_open_and_is_brought_up_to_date(engine):
    record, row, conflict = clash(engine)
    with lost():
        engine.sandbox.edit(record.pfa_id, {"model": "THEIRS AGAIN"})
    go_on(engine)
    assert engine.state(row) is State.CONFLICTED
    seen = conflict.pems_version
    with pytest.raises(ConflictMovedError):
        resolve(membership=engine.member(), conflict=conflict, resolution=Resolution.USE_LOCAL, seen_pems_version=seen)
    conflict.refresh_from_db()
    assert conflict.fields[0]["theirs"] == "THEIRS AGAIN"
    resolve(membership=engine.member(), conflict=conflict, resolution=Resolution.USE_LOCAL)
    engine.settle()
    assert (engine.state(row), written(engine, record)) == (State.CONFIRMED, [{"model": "OURS"}])


def test_behind_a_conflict_what_was_sent_since_is_not_sent_again(engine, cast):
    record, row, conflict = clash(engine)
    behind = engine.edit(record, by=cast.second, areaSilo="East")
    with lost():
        resolve(membership=engine.member(), conflict=conflict, resolution=Resolution.USE_PEMS)
        engine.settle()
        engine.sandbox.edit(record.pfa_id, {"areaSilo": record.fields["areaSilo"]})
    go_on(engine)
    resolve(membership=engine.member(), conflict=Conflict.objects.unresolved().get(), resolution=Resolution.USE_PEMS)
    engine.settle()
    assert [engine.state(each) for each in (row, behind)] == [State.WITHDRAWN, State.CONFIRMED]
    assert written(engine, record) == [{"areaSilo": "East"}], "PEMS knows the Idempotency-Key, and answers as it did"
    assert engine.in_pems(record)["areaSilo"] == record.fields["areaSilo"]


def test_a_dead_letter_is_read_back_before_it_is_retried(engine):
    record = engine.records[0]
    row = engine.edit(record, model="1")
    engine.sandbox.script("item_422", pfaId=record.pfa_id)
    engine.send()
    assert engine.state(row) is State.DEAD
    with lost():
        replay_dead_letters(membership=engine.member(), modification_ids=[row.pk])
        engine.settle()
        engine.sandbox.edit(record.pfa_id, {"model": record.fields["model"]})
    go_on(engine)
    assert engine.row(row).may_still_land
    replay_dead_letters(membership=engine.member(), modification_ids=[row.pk])
    engine.settle()
    assert engine.state(row) is State.CONFLICTED, "it landed, and PEMS took it back"
    assert written(engine, record) == [{"model": "1"}]


def test_a_draft_that_was_committed_and_written_is_no_second_write_when_it_is_committed_again(engine):
    record = engine.records[0]
    draft = engine.draft(record, model="1")
    with lost():
        _commit(engine, draft)
        engine.settle()
    go_on(engine)
    assert engine.state(draft) is State.DRAFT
    _commit(engine, draft)
    engine.settle()
    assert (engine.state(draft), written(engine, record)) == (State.CONFIRMED, [{"model": "1"}])


def _commit(engine, draft):
    assert not commit(membership=engine.member(), modification_ids=[draft.pk]).rejected


def test_nothing_is_sent_or_read_singly_until_a_whole_sweep_has_ended(engine, monkeypatch):
    rows = [engine.edit(engine.records[0], model="1")]
    claims = engine.claim()
    after_restore()
    rows.append(engine.edit(engine.records[1], model="2"))
    organization = Organization.objects.get(pk=engine.organization.pk)
    asked = []
    monkeypatch.setattr("pems_sync.dispatch.prove", lambda ids, shown: asked.append(ids))
    delivery.deliver(claims[0].delivery_id)  # a message of before, still in the broker
    assert (engine.claim(), scheduling.due_connections(), is_paused(organization)) == ([], [], True)
    sweeping.ask_for_proofs()
    inbound.pull(organization)
    assert (asked, engine.sandbox.audit(), closed(engine)) == ([], [], True)
    sweep(engine)
    assert not closed(engine)
    sweeping.ask_for_proofs()
    assert asked == [[rows[0].pk]]
    engine.settle()
    assert [engine.state(row) for row in rows] == [State.CONFIRMED] * 2


def test_a_sweep_that_began_before_or_is_not_complete_does_not_open(engine, monkeypatch):
    after_restore()
    state = InboundState.objects.get(organization=engine.organization)
    assert state.sweep_due_at is not None
    assert state.sweep_due_at <= database_now()
    page = Reader.page
    monkeypatch.setattr(Reader, "page", lambda self, **how: replace(page(self, **how), total=10_000))
    sweep(engine)
    state.refresh_from_db()
    assert closed(engine)
    assert state.sweep_due_at is not None
    assert (state.sweep_due_at - database_now()).total_seconds() <= 60, "again at once, not in an hour"
    monkeypatch.undo()
    Organization.objects.update(restored_at=database_now() + timedelta(hours=1))
    sweep(engine)
    assert closed(engine)


def test_run_twice_it_does_the_same_as_once(engine, cast):
    record = engine.records[0]
    in_doubt(engine, record, model="1")
    engine.edit(record, by=cast.second, areaSilo="East")
    after_restore()
    once = list(Modification.objects.order_by("pk").values("pk", "state", "exposed", "attempts"))
    at = Organization.objects.get(pk=engine.organization.pk).restored_at
    after_restore()
    assert list(Modification.objects.order_by("pk").values("pk", "state", "exposed", "attempts")) == once
    assert Organization.objects.get(pk=engine.organization.pk).restored_at == at
    assert JournalEntry.objects.filter(organization=engine.organization, kind="organization_restarted").count() == 1
    sweep(engine)
    engine.settle()
    assert written(engine, record) == [{"model": "1"}, {"areaSilo": "East"}]


def test_it_refuses_while_workers_are_alive_unless_told_otherwise(engine):
    redis_store().set("pems-sync:worker:pems.write:write-1@here", "1", ex=15)
    with pytest.raises(CommandError, match="write-1@here"):
        after_restore()
    assert not closed(engine)
    after_restore("--force")
    assert closed(engine)


@pytest.mark.parametrize(("words", "why"), [("yesterday", "is not a time"), ("2999-01-01T00:00:00Z", "future")])
def test_a_time_that_is_none_is_refused(engine, words, why):
    with pytest.raises(CommandError, match=why):
        after_restore("--backup-taken-at", words)


def test_the_window_of_what_is_lost_is_told_and_what_pems_knows_more_is_counted(engine):
    """An edit committed and written after the backup: PEMS has it, this database never heard of it."""
    with lost():
        engine.edit(engine.records[0], model="LOST")
        engine.settle()
    last = JournalEntry.objects.filter(organization=engine.organization).order_by("position").last()
    told = next(each for each in after_restore()["organizations"] if each["organizationId"] == "org-rio")
    assert told["containedUntil"] == last.recorded_at.isoformat().replace("+00:00", "Z")
    assert told["lostFrom"] == told["containedUntil"] < told["lostUntil"]
    sweep(engine)
    end = JournalEntry.objects.get(organization=engine.organization, kind="organization_restored")
    assert end.after == {"foundWritten": 0, "asked": 0, "unknownWrites": 1}
    assert Record.objects.get(pk=engine.records[0].pk).fields["model"] == "LOST", "kept as PEMS has it"


def test_where_pems_enforces_no_versions_a_person_decides_about_the_whole_lane(engine, cast):
    Connection.objects.update(guarded=False)
    record = engine.records[0]
    head, behind = engine.edit(record, model="1"), engine.edit(record, by=cast.second, areaSilo="East")
    go_on(engine)
    assert [engine.state(row) for row in (head, behind)] == [State.CONFLICTED, State.CONFLICTED]
    assert written(engine, record) == []
    assert_invariants(engine.organization)


def test_numbers_of_socket_events_that_are_given_again_are_known(engine):
    """A client that heard of lost events must begin anew, not be sent others under the same numbers."""
    pause(organization=engine.organization, user=engine.planner, reason="")
    assert restored_at_seq(engine.organization.pk) is None
    engine.edit(engine.records[0], model="1")
    seq = JournalHead.objects.get(organization=engine.organization).seq
    after_restore()
    assert restored_at_seq(engine.organization.pk) == seq
    assert JournalHead.objects.get(organization=engine.organization).seq > seq


@pytest.mark.usefixtures("transactional_db")
def test_a_socket_that_heard_of_lost_events_begins_anew(rio, cast):
    """The backup ends at 5; this client heard 7 events, and 6 and 7 are others by now."""
    happen(rio, 5)
    restart(rio)
    happen(rio, 5)

    async def scenario(after):
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await listener.resume(after)
        frame = await listener.frame()
        await listener.leave()
        return frame

    assert [event["type"] for event in asyncio.run(scenario(7))] == ["RESET"]
    assert seqs(asyncio.run(scenario(5))) == [6, 7, 8, 9, 10]
