"""What the database itself refuses: the transition table, append-only tables, unique indexes, checks."""

import re
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from pems_sync.clock import database_now
from pems_sync.models import Attempt, AttemptOutcome, JournalEntry, Modification, RecordVersion
from pems_sync.states import FINAL, TRANSITIONS, DeadReason, State
from tests.cast import make_record


@pytest.fixture
def row(rio, cast):
    return make_row(rio, cast.planner)


def make_row(organization, author, *, record=None, **fields):
    record = record or make_record(organization)
    now = database_now()
    defaults = {
        "state": State.QUEUED, "saved_at": now, "committed_at": now, "queued_at": now, "rank_at": now, "changes": {"model": "1"},
        "base": {}, "base_version": 4, "expected_version": 4,
    }  # fmt: skip
    return Modification.objects.create(
        organization=organization, record=record, pfa_id=record.pfa_id, author=author, authorised_by=author, **defaults | fields
    )  # fmt: skip


def refused(act) -> str:
    with pytest.raises(IntegrityError) as error, transaction.atomic():
        act()
    return str(error.value)


def put(row, **fields):
    return lambda: Modification.objects.filter(pk=row.pk).update(**fields)


def test_the_trigger_of_the_database_says_what_states_py_says(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = 'pems_sync_guard_transition'")
        source = cursor.fetchone()[0]
    ways = set(re.findall(r"\('(\w+)', '(\w+)'\)", source))
    assert ways == {(str(old), str(new)) for old, news in TRANSITIONS.items() for new in news}


@pytest.mark.parametrize("old", [State.QUEUED, *sorted(FINAL)])
def test_an_illegal_transition_is_refused(rio, cast, old):
    row = make_row(rio, cast.planner, state=old, finished_at=database_now())
    illegal = [state for state in State if state not in TRANSITIONS[old] and state is not old]
    assert all("no way from" in refused(put(row, state=state)) for state in illegal)


def test_a_modification_is_never_deleted(row):
    assert "append-only" in refused(lambda: Modification.objects.filter(pk=row.pk).delete())


@pytest.mark.parametrize("model", [Attempt, AttemptOutcome, JournalEntry, RecordVersion])
def test_append_only_tables_refuse_update_delete_and_truncate(row, rio, model):
    attempt = Attempt.objects.create(
        modification=row, epoch=1, delivery_id=row.pk, version_sent=4, idempotency_key=row.pk, request={}, worker="w",
        started_at=database_now(),
    )  # fmt: skip
    AttemptOutcome.objects.create(attempt=attempt, kind="busy", at=database_now())
    JournalEntry.objects.create(
        organization=rio, position=1, kind="x", actor="a", recorded_at=database_now(), previous_hash="", hash=""
    )
    run("SET CONSTRAINTS ALL IMMEDIATE")
    table = model._meta.db_table
    column = next(field.column for field in model._meta.concrete_fields if not field.primary_key)
    for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):  # noqa: S608  (names of the model)
        assert "append-only" in refused(lambda sql=statement: run(sql))
    assert model.objects.exists()


def run(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_one_in_flight_per_record_i3(rio, cast, row):
    held = {"delivery_id": row.pk, "lease_until": database_now()}
    Modification.objects.filter(pk=row.pk).update(is_head=True)
    put(row, state=State.SENDING, **held)()
    message = refused(lambda: make_row(rio, cast.second, record=row.record, state=State.UNKNOWN, is_head=True, **held))
    assert "i3_one_in_flight_per_record" in message or "one_head_per_record" in message


def test_one_head_per_record(rio, cast, row):
    put(row, is_head=True)()
    assert "one_head_per_record" in refused(lambda: make_row(rio, cast.second, record=row.record, is_head=True))


def test_one_draft_per_author_and_record(rio, cast, row):
    make_row(rio, cast.planner, record=row.record, state=State.DRAFT)
    make_row(rio, cast.second, record=row.record, state=State.DRAFT)
    again = refused(lambda: make_row(rio, cast.planner, record=row.record, state=State.DRAFT))
    assert "one_draft_per_author_and_record" in again


def test_an_attempt_once_per_epoch_i4(row):
    fields = {
        "modification": row, "epoch": 1, "delivery_id": row.pk, "version_sent": 4, "idempotency_key": row.pk, "request": {},
        "worker": "w", "started_at": database_now(),
    }  # fmt: skip
    Attempt.objects.create(**fields)
    assert "i4_attempt_once_per_epoch" in refused(lambda: Attempt.objects.create(**fields))


def test_a_position_and_a_seq_are_given_once(rio):
    fields = {"kind": "x", "actor": "a", "recorded_at": database_now(), "previous_hash": "", "hash": ""}
    JournalEntry.objects.create(organization=rio, position=1, seq=1, **fields)
    JournalEntry.objects.create(organization=None, position=1, **fields)
    assert "i9_position_once" in refused(lambda: JournalEntry.objects.create(organization=rio, position=1, **fields))
    assert "i9_position_once" in refused(lambda: JournalEntry.objects.create(organization=None, position=1, **fields))
    assert "i10_seq_once" in refused(lambda: JournalEntry.objects.create(organization=rio, position=2, seq=1, **fields))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"state": State.SENDING, "delivery_id": None, "lease_until": None, "is_head": True}, "sending_needs_a_lease"),
        ({"state": State.UNKNOWN, "is_head": False}, "only_a_head_is_in_flight"),
        ({"state": State.DEAD, "dead_reason": None}, "dead_has_a_reason"),
        ({"state": State.QUEUED, "dead_reason": DeadReason.POISON}, "dead_has_a_reason"),
        ({"state": State.DEAD, "dead_reason": DeadReason.REJECTED, "is_head": True}, "a_head_holds_its_lane"),
        ({"state": State.QUEUED, "queued_at": None}, "committed_rows_have_times"),
        ({"state": State.CONFIRMED}, "final_rows_have_an_end"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(rio, cast, fields, name):
    assert name in refused(lambda: make_row(rio, cast.planner, **fields))


def test_times_keep_their_microseconds_when_rows_are_saved_in_sets(rio, cast, row):
    until = database_now() + timedelta(microseconds=123_457)
    Modification.objects.all().update_each([{"pk": row.pk, "lease_until": until, "changes": {"model": None}}])
    row.refresh_from_db()
    assert (row.lease_until, row.changes) == (until, {"model": None})
    assert Modification.objects.all().update_each([]) == 0
