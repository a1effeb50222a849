"""Who is next: fair, by priority with ageing, one head per record, no more than the pace allows (D9)."""

from datetime import timedelta

import pytest

from pems_sync import scheduling, sweeping
from pems_sync.clock import database_now
from pems_sync.models import Connection, Modification, Organization
from pems_sync.services.transitions import rank
from pems_sync.states import State
from tests.cast import make_connection, make_organization, make_record, make_user


@pytest.fixture
def connection(db):
    return make_connection(requests_per_second=10, batch_size=100)


def queue(organization, author, number=1, *, minutes_ago=0.0, priority=0, **fields):
    now = database_now()
    rows = []
    for each in range(number):
        record = make_record(organization)
        at = now - timedelta(minutes=minutes_ago) + timedelta(milliseconds=each)
        rows.append(
            Modification(
                organization=organization, record=record, pfa_id=record.pfa_id, author=author, authorised_by=author,
                changes={"model": "1"}, base={}, base_version=4, expected_version=4, state=State.QUEUED, is_head=True,
                priority=priority, saved_at=at, committed_at=at, queued_at=at, rank_at=rank(at, priority), **fields,
            )
        )  # fmt: skip
    return Modification.objects.bulk_create(rows)


def claimed(connection):
    return [(claim.rows[0].organization.slug, len(claim.rows)) for claim in scheduling.claim(connection.pk)]


def test_a_lone_edit_goes_at_once_and_alone(rio, cast):
    queue(rio, cast.planner)
    assert claimed(rio.connection) == [("org-rio", 1)]


def test_a_claim_returns_at_most_what_half_a_second_of_pace_allows(rio, cast):
    queue(rio, cast.planner, 30)
    assert claimed(rio.connection) == [("org-rio", 6)] * 5
    queue(rio, cast.planner, 30)
    assert claimed(rio.connection) == [], "until one of them has started"
    Modification.objects.filter(state=State.SENDING).update(started_at=database_now())
    assert len(claimed(rio.connection)) == 5


def test_a_slow_connection_still_gets_one_request(rio, cast):
    Connection.objects.update(requests_per_second=0.2)
    queue(rio, cast.planner, 3)
    assert claimed(rio.connection) == [("org-rio", 3)]


def test_a_batch_holds_at_most_100_and_no_more_than_the_connection_or_the_setting_allow(rio, cast, settings):
    queue(rio, cast.planner, 60)
    Connection.objects.update(batch_size=4)
    assert claimed(rio.connection) == [("org-rio", 4)] * 5
    Modification.objects.filter(state=State.SENDING).update(started_at=database_now())
    settings.WRITE_SYNC_BATCH_SIZE = 3
    assert claimed(rio.connection) == [("org-rio", 3)] * 5
    Modification.objects.filter(state=State.SENDING).update(started_at=database_now())
    Connection.objects.update(batch_absent_until=database_now() + timedelta(hours=1))
    assert claimed(rio.connection) == [("org-rio", 1)] * 5


def test_one_edit_is_served_beside_a_hundred_thousand_of_another_organization(rio, portarthur, cast):
    """D9, with fewer: the rule does not depend on the number."""
    queue(rio, cast.planner, 700, minutes_ago=60)
    queue(portarthur, cast.outsider)
    first = claimed(rio.connection)
    assert ("org-portarthur", 1) in first
    assert len(first) == 5


def test_organizations_take_turns_the_longest_unserved_first(connection, cast):
    organizations = [make_organization(connection, f"org-{each}", f"CODE{each}") for each in range(7)]
    for each in organizations:
        queue(each, cast.planner, 3)
    served = [slug for slug, _ in claimed(connection)]
    Modification.objects.filter(state=State.SENDING).update(started_at=database_now())
    served += {slug for slug, _ in claimed(connection)}
    assert sorted(served) == [each.slug for each in organizations]


def test_each_organization_gets_one_request_before_any_gets_a_second(rio, portarthur, cast):
    queue(rio, cast.planner, 40)
    queue(portarthur, cast.outsider, 2)
    shares = claimed(rio.connection)
    assert [slug for slug, _ in shares].count("org-portarthur") == 2
    assert sum(size for slug, size in shares if slug == "org-rio") == 40


def test_priority_goes_first_but_each_step_is_worth_one_minute_of_waiting(rio, cast):
    Connection.objects.update(requests_per_second=1, batch_size=1)
    (old,) = queue(rio, cast.planner, minutes_ago=4)
    (urgent,) = queue(rio, cast.planner, priority=3)
    (urgent_before,) = queue(rio, cast.planner, priority=3, minutes_ago=2)
    order = []
    for _ in range(3):
        (claim,) = scheduling.claim(rio.connection_id)
        order.append(claim.rows[0].pk)
        Modification.objects.filter(state=State.SENDING).update(started_at=database_now())
    assert order == [urgent_before.pk, old.pk, urgent.pk]


def test_only_heads_whose_time_has_come_are_claimed(rio, cast):
    queue(rio, cast.planner, not_before=database_now() + timedelta(seconds=30))
    (behind,) = queue(rio, cast.planner)
    Modification.objects.filter(pk=behind.pk).update(is_head=False)
    assert claimed(rio.connection) == []


def test_rows_of_a_refused_batch_travel_in_their_own_size(rio, cast):
    queue(rio, cast.planner, 3, batch_limit=1, minutes_ago=1)
    queue(rio, cast.planner, 4, batch_limit=2)
    queue(rio, cast.planner, 50)
    sizes = [size for _, size in claimed(rio.connection)]
    assert sizes == [1, 1, 1, 2, 2]


@pytest.mark.parametrize("unwilling", ["paused", "held", "organization", "setting"])
def test_nothing_is_claimed_for_what_must_not_send(rio, cast, settings, unwilling):
    queue(rio, cast.planner)
    now = database_now()
    if unwilling == "setting":
        settings.ENABLE_WRITE_SYNC = False
    elif unwilling == "organization":
        Organization.objects.filter(pk=rio.pk).update(paused_at=now)
    else:
        Connection.objects.update(
            **{"paused_at": now} if unwilling == "paused" else {"held_until": now + timedelta(seconds=9)}
        )
    assert claimed(rio.connection) == []


def test_a_paused_organization_does_not_hold_up_the_others(rio, portarthur, cast):
    queue(rio, cast.planner, 3)
    queue(portarthur, cast.outsider)
    Organization.objects.filter(pk=rio.pk).update(paused_at=database_now())
    assert claimed(rio.connection) == [("org-portarthur", 1)]


def test_a_claim_takes_lease_and_epoch_and_nothing_else(rio, cast, settings):
    (row,) = queue(rio, cast.planner)
    (claim,) = scheduling.claim(rio.connection_id)
    row.refresh_from_db()
    assert (row.state, row.lease_epoch, row.delivery_id, row.started_at) == (State.SENDING, 1, claim.delivery_id, None)
    left = (row.lease_until - database_now()).total_seconds()
    assert 0 < left <= settings.CLAIM_LEASE_SECONDS
    assert row.ledger.count() == 0
    assert claim.shown.startswith("RIO PFA-")


def test_a_claim_journals_no_more_than_a_transaction_may(rio, portarthur, cast, monkeypatch):
    monkeypatch.setattr(scheduling, "MOST_ENTRIES", 40)
    queue(rio, cast.planner, 90)
    queue(portarthur, cast.outsider, 90)
    assert sum(size for _, size in claimed(rio.connection)) <= 40


def test_the_pump_rings_a_worker_for_every_request(rio, cast, monkeypatch):
    rung = []
    monkeypatch.setattr(scheduling.dispatch, "deliver", lambda delivery_id, shown: rung.append(delivery_id))
    queue(rio, cast.planner, 30)
    assert scheduling.pump(rio.connection_id) == 5 == len(set(rung))
    assert scheduling.pump(rio.connection_id) == 0


def test_the_sweep_rings_for_rows_whose_bell_was_lost(rio, cast, monkeypatch):
    rung = []
    monkeypatch.setattr(sweeping.dispatch, "ring", lambda connection_id, **_: rung.append(connection_id))
    sweeping.sweep()
    assert rung == []
    queue(rio, cast.planner)
    sweeping.sweep()
    assert rung == [rio.connection_id]
    Connection.objects.update(paused_at=database_now())
    sweeping.sweep()
    assert len(rung) == 1


def test_connections_do_not_share_a_turn(rio, cast):
    other = make_organization(make_connection(slug="other"), "org-other", "OTHER")
    author = make_user("other-planner", other, "planner")
    queue(rio, cast.planner, 30)
    queue(other, author)
    assert claimed(other.connection) == [("org-other", 1)]
    assert len(claimed(rio.connection)) == 5
