"""The journal: dense, chained, honest about who and why; and one transaction's news together."""

from contextlib import suppress

import psycopg
import pytest
from django.db import OperationalError, connection
from django.dispatch import receiver

from pems_sync import events, journal
from pems_sync.clock import database_now
from pems_sync.journal import MOST_ENTRIES, deadlock_retried, event_recorded, first_broken, journal_grew, unit_of_work
from pems_sync.models import HourTally, JournalEntry, JournalHead, Organization
from pems_sync.origin import Origin, origin_of_work
from pems_sync.tallies import percentile


def saved(organization, actor="rio-planner", **fields):
    return events.DraftSaved(organization_id=organization.pk if organization else None, actor=actor, **fields)


def chain(organization):
    return JournalEntry.objects.filter(organization=organization).order_by("position")


def record(organization, number=3):
    with unit_of_work() as work:
        for _ in range(number):
            work.record(saved(organization, before={"model": "ä"}, after={"model": None}))
        work.record(events.QueueResumed(organization_id=organization.pk, actor="rio-admin"))


def test_positions_are_dense_over_all_entries_and_seq_over_socket_events(rio):
    record(rio)
    record(rio)
    assert [entry.position for entry in chain(rio)] == list(range(1, 9))
    assert [entry.seq for entry in chain(rio)] == [None, None, None, 1, None, None, None, 2]
    head = JournalHead.objects.get(organization=rio)
    assert (head.position, head.seq, head.last_hash) == (8, 2, chain(rio).last().hash)


def test_a_chain_verifies_and_the_first_broken_entry_is_named(rio):
    record(rio, 6)
    assert first_broken(chain(rio)) is None
    tamper("UPDATE pems_sync_journalentry SET reason = 'nothing happened' WHERE position = 4")
    assert first_broken(chain(rio)).position == 4


@pytest.mark.parametrize(
    ("statement", "position"),
    [
        ("DELETE FROM pems_sync_journalentry WHERE position = 3", 4),
        ("UPDATE pems_sync_journalentry SET previous_hash = repeat('0', 64) WHERE position = 5", 5),
        ('UPDATE pems_sync_journalentry SET after = \'{"model": "x"}\' WHERE position = 2', 2),
        (
            "UPDATE pems_sync_journalentry SET recorded_at = recorded_at + interval '1 microsecond' WHERE position = 6",
            6,
        ),
        ("DELETE FROM pems_sync_journalentry WHERE position = 1", 2),
    ],
)
def test_whatever_is_done_to_an_entry_is_found(rio, statement, position):
    record(rio, 6)
    tamper(statement)
    assert first_broken(chain(rio)).position == position


def tamper(sql):
    """As somebody with the rights to switch triggers off would."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(sql)
        cursor.execute("SET LOCAL session_replication_role = origin")


def test_organizations_and_what_belongs_to_none_have_chains_of_their_own(rio, portarthur):
    with unit_of_work() as work:
        for organization in (portarthur, None, rio, None):
            work.record(saved(organization))
    assert [chain(each).count() for each in (rio, portarthur)] == [1, 1]
    nobodys = JournalEntry.objects.filter(organization=None).order_by("position")
    assert [entry.position for entry in nobodys] == [1, 2]
    assert first_broken(nobodys) is None


def test_an_entry_says_who_from_where_on_whose_behalf(rio):
    with origin_of_work(Origin("request-1", "10.0.0.1")):
        record(rio, 1)
    entry = chain(rio).first()
    assert (entry.request_id, entry.address, entry.actor) == ("request-1", "10.0.0.1", "rio-planner")


def test_a_receiver_that_raises_undoes_the_transaction(rio):
    @receiver(event_recorded, sender=events.QueueResumed, weak=False, dispatch_uid="test")
    def refuse(**_):
        raise ZeroDivisionError

    try:
        with pytest.raises(ZeroDivisionError):
            record(rio)
    finally:
        event_recorded.disconnect(sender=events.QueueResumed, dispatch_uid="test")
    assert not chain(rio).exists()


def test_a_part_that_fails_alone_takes_its_events_with_it(rio):
    with unit_of_work() as work:
        work.record(saved(rio))
        with suppress(ZeroDivisionError), work.savepoint():
            Organization.objects.filter(pk=rio.pk).update(name="changed")
            work.record(saved(rio))
            raise ZeroDivisionError
    rio.refresh_from_db()
    assert (chain(rio).count(), rio.name) == (1, "Rio")


def test_after_commit_each_organization_is_announced_once_with_its_last_number(
    rio, portarthur, django_capture_on_commit_callbacks
):
    heard = []

    def hear(organization_id, seq, **_):
        heard.append((organization_id, seq))
        raise ZeroDivisionError  # may not raise: it is logged

    journal_grew.connect(hear, weak=False)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            record(rio, 0)
            record(rio, 0)
            with unit_of_work() as work:
                work.record(saved(portarthur))
    finally:
        journal_grew.disconnect(hear)
    assert heard == [(rio.pk, 1), (rio.pk, 2)], "what sockets do not see is not announced"


def test_a_lost_deadlock_is_carried_out_again_as_a_whole(transactional_db):
    tries = []

    @deadlock_retried
    def service():
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("deadlock") from psycopg.errors.DeadlockDetected()
        return "done"

    assert (service(), len(tries)) == ("done", 3)


def test_another_database_error_is_not_retried(db):
    tries = []

    @deadlock_retried
    def service():
        tries.append(1)
        raise OperationalError("gone") from psycopg.errors.AdminShutdown()

    with pytest.raises(OperationalError):
        service()
    assert len(tries) == 1


def test_finished_work_is_counted_by_the_hour(rio):
    with unit_of_work() as work:
        for seconds in (0.04, 0.3, 7.0, 99_999.0):
            work.record(
                events.ModificationConfirmed(organization_id=rio.pk, actor="worker", new_version=5, seconds=seconds)
            )
        work.record(
            events.ModificationBuried(
                organization_id=rio.pk, actor="w", error="", dead_reason="rejected", retry_count=0
            )
        )
    tally = HourTally.objects.get(organization=rio)
    assert (tally.confirmed, tally.failed, tally.conflicts, sum(tally.latency)) == (4, 1, 0, 4)
    assert tally.hour == database_now().replace(minute=0, second=0, microsecond=0)
    assert [percentile(tally.latency, share) for share in (0.25, 0.5, 0.75, 1.0)] == [0.05, 0.5, 10.0, 86400.0]
    assert percentile([0] * 17, 0.5) == 0.0


def test_a_transaction_carries_at_most_500_entries():
    assert MOST_ENTRIES == journal.MOST_ENTRIES == 500
