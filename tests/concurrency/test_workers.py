"""Workers that meet: two deliveries of one message, two pumps, a stale finish, sweeps (D2, D3, D4)."""

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from pems_sync import delivery, inbound, proof, scheduling, sweeping
from pems_sync.client.answers import record_of
from pems_sync.clock import database_now
from pems_sync.errors import DomainError
from pems_sync.models import Attempt, Connection, Modification, Record
from pems_sync.services import proving
from pems_sync.services.committing import commit
from pems_sync.services.people import withdraw_modification
from pems_sync.states import State
from tests.concurrency.threads import together
from tests.invariants import assert_applied_once, assert_invariants, assert_stored_equals_pems


def test_two_deliveries_of_one_message_send_once(engine):
    """The visibility timeout of the broker ran out while the first worker was still busy."""
    rows = [engine.edit(record, model="1") for record in engine.records[:6]]
    claims = engine.claim()
    engine.sandbox.settings(latency_ms=30)
    for claim in claims:
        together(*[lambda claim=claim: delivery.deliver(claim.delivery_id)] * 3)
    engine.sandbox.settings(latency_ms=0)
    assert {engine.state(row) for row in rows} == {State.CONFIRMED}
    assert Attempt.objects.count() == len(rows)
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_two_pumps_never_claim_the_same_edit(engine):
    Connection.objects.update(requests_per_second=40)
    rows = [engine.edit(record, model="1") for record in engine.records[:20]]
    pumps = together(*[lambda: scheduling.claim(engine.organization.connection_id)] * 4)
    claims = [claim for each in pumps for claim in each]
    claimed = [row.pk for claim in claims for row in claim.rows]
    assert len(claimed) == len(set(claimed)) == len(rows)
    assert len(claims) <= 20, "the pace of half a second, whoever pumps"
    assert set(Modification.objects.values_list("lease_epoch", flat=True)) == {1}


def test_a_stale_finish_after_the_lease_was_given_away_changes_nothing(engine):
    """The worker sleeps in the answer for so long that its lease expires; another proves and sends on meanwhile."""
    row = engine.edit(engine.records[0], model="1")
    (claim,) = engine.claim()
    engine.sandbox.script("slow", seconds=1.0)
    late = threading.Thread(target=lambda: together(lambda: delivery.deliver(claim.delivery_id)))
    late.start()
    time.sleep(0.4)
    assert engine.expire_leases() == 1
    assert engine.state(row) is State.UNKNOWN
    engine.prove()
    assert engine.state(row) is State.CONFIRMED, "applied before the slow answer"
    late.join()
    assert engine.state(row) is State.CONFIRMED
    assert Attempt.objects.get().outcomes.filter(kind="confirmed").count() == 0, "the late answer is not written down"
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_two_sweeps_return_a_lease_once(engine):
    rows = [engine.edit(record, model="1") for record in engine.records[:8]]
    engine.claim()
    Modification.objects.update(lease_until=database_now() - timedelta(seconds=1))
    together(*[sweeping.sweep] * 4)
    assert {engine.state(row) for row in rows} == {State.QUEUED}
    assert_invariants(engine.organization)


def test_two_provers_of_one_row_decide_once(engine):
    row = engine.edit(engine.records[0], model="1")
    engine.sandbox.script("reset_before")
    engine.send()
    engine.skip_waits()
    taken = together(*[lambda: proving.take([row.pk], total_seconds=5)] * 4)
    assert sum(map(len, taken)) == 1
    Modification.objects.update(lease_until=None)
    together(*[lambda: proof.prove([row.pk])] * 3)
    assert (engine.state(row), engine.row(row).attempts) == (State.QUEUED, 1)
    assert_invariants(engine.organization)


@pytest.mark.parametrize("number", range(8))
def test_a_fold_and_a_claim_at_the_same_time(engine, number):
    """Either the claim takes the edit and the later one waits, or the later one takes it in and is claimed itself."""
    record = engine.records[number]
    first = engine.edit(record, model="1")
    draft = engine.draft(record, areaSilo="East")
    member = engine.member()
    together(lambda: commit(membership=member, modification_ids=[draft.pk]), engine.claim)
    folded = engine.state(first) is State.SUPERSEDED
    assert engine.row(draft).changes == ({"model": "1", "areaSilo": "East"} if folded else {"areaSilo": "East"})
    engine.expire_leases()
    engine.settle()
    shown = engine.in_pems(record)
    assert (shown["model"], shown["areaSilo"]) == ("1", "East")
    assert_applied_once(engine)
    assert_invariants(engine.organization)


def test_a_withdrawal_and_a_claim_at_the_same_time(engine):
    for record in engine.records[:6]:
        row, member = engine.edit(record, model="1"), engine.member()

        def take_back(row=row, member=member):
            try:
                withdraw_modification(membership=member, modification=row)
            except DomainError:
                return False
            return True

        withdrawn, claims = together(take_back, engine.claim)
        assert withdrawn == (engine.state(row) is State.WITHDRAWN)
        assert bool(claims) != withdrawn
    assert_invariants(engine.organization)


def test_two_pulls_that_find_the_same_new_records_both_go_through(engine):
    shown = record_of(engine.in_pems(engine.records[0]), organization_code="RIO")
    new = [replace(shown, pfa_id=f"PFA-NEW-{number}") for number in range(30)]
    counts = together(*[lambda: inbound.apply(engine.organization, new)] * 3)
    assert sum(counts) == 30
    assert Record.objects.filter(pfa_id__startswith="PFA-NEW").count() == 30


def test_committing_sending_pulling_and_proving_at_once_never_deadlock_or_lose_anything(engine, cast, settings):
    """Everybody works on the same few records for a while; then all edits stop, and so do writes (I13)."""
    settings.WRITE_SYNC_RETRY_DELAY, settings.PROOF_DELAYS = 0.05, [0.05]
    ends = time.monotonic() + 4
    records = engine.records[:5]
    rates = dict.fromkeys(("lost_reply", "reset_before", "status_503", "item_423"), 0.04)
    engine.sandbox.faults(rates=rates, operations=["PUT", "BATCH"], seed=5)

    def plan(user, field):
        number = 0
        while time.monotonic() < ends:
            number += 1
            try:
                engine.draft(records[number % 5], by=user, **{field: f"{user.username}-{number}"})
                commit(membership=engine.member(user))
            except DomainError:
                time.sleep(0.01)

    def work():
        while time.monotonic() < ends:
            if not engine.send():
                time.sleep(0.01)

    def look():
        number = 0
        while time.monotonic() < ends:
            number += 1
            engine.sandbox.edit(records[number % 5].pfa_id, {"category": f"foreign-{number}"})
            inbound.pull(engine.organization)
            sweeping.sweep()
            proof.prove(list(Modification.objects.provable(database_now()).values_list("pk", flat=True)))
            time.sleep(0.05)

    together(
        lambda: plan(cast.planner, "model"), lambda: plan(cast.second, "areaSilo"), lambda: plan(cast.lead, "model"),
        work, work, look,
    )  # fmt: skip
    engine.sandbox.clear_faults()
    engine.settle(rounds=60)
    assert_invariants(engine.organization)
    assert_applied_once(engine)
    waiting = Modification.objects.filter(state__in=[State.QUEUED, State.SENDING, State.UNKNOWN], is_head=True)
    assert not waiting.exists()
    writes = engine.sandbox.stats()["writes"]
    engine.settle()
    assert engine.sandbox.stats()["writes"] == writes
    engine.pull()
    assert_stored_equals_pems(engine)
