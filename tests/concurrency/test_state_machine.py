"""Any order of events, drawn by hypothesis, through the services and against a real PEMS: the invariants hold after every
step, nobody's change is overwritten unseen, and when edits stop, writes stop and both sides are equal (I1 to I3, I8, I9, I13)."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import defaultdict
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from conflicts.models import Conflict, Resolution
from conflicts.services import resolve
from pems_sync import conserving, delivery, scheduling, verifying
from pems_sync.clock import database_now
from pems_sync.errors import DomainError
from pems_sync.models import Attempt, JournalEntry, Modification, Record
from pems_sync.services.committing import commit
from pems_sync.services.crashing import encoded
from pems_sync.services.drafts import discard_drafts
from pems_sync.services.people import discard_dead_letters, retry_modification, withdraw_modification
from pems_sync.services.sending import held_rows, start
from pems_sync.states import State
from tests.engine import Engine
from tests.invariants import assert_invariants, assert_stored_equals_pems

RECORDS = st.integers(0, 2)
PEOPLE = st.sampled_from(["planner", "second"])
FIELDS = st.sampled_from(["model", "areaSilo", "forecastEnd", "isDiscontinued"])
VALUES = {
    "model": st.sampled_from(["1", "2", None]),
    "areaSilo": st.sampled_from(["1", "2"]),
    "forecastEnd": st.sampled_from(["2041-01-01", "2042-01-01"]),
    "isDiscontinued": st.just(True),
}
FAULTS = st.sampled_from(
    [None] * 6
    + ["lost_reply", "reset_before", "truncated", "status_500", "status_503", "status_429", "item_422", "item_423", "no_record",
       "adjust", "version_jump", "late_apply", "late_apply"]
)  # fmt: skip


class Planners(RuleBasedStateMachine):
    engine: Engine
    people: dict[str, User]

    def __init__(self) -> None:
        super().__init__()
        self.engine.sandbox.reset()
        self.undo = transaction.atomic()
        self.undo.__enter__()
        self.records = self.engine.records[:3]
        self.claims: list[scheduling.Claim] = []
        self.seen: dict[Any, dict[str, set[Any]]] = defaultdict(dict)
        """By modification and field: the values of PEMS that its people looked at when they decided."""
        self.applied_when_withdrawn: dict[Any, int] = {}

    # ---------------------------------------------------------------- planners

    @rule(record=RECORDS, who=PEOPLE, field=FIELDS, data=st.data())
    def draft(self, record: int, who: str, field: str, data: st.DataObject) -> None:
        value = data.draw(VALUES[field])
        stored = Record.objects.get(pk=self.records[record].pk).fields[field]
        row = self.tolerating(lambda: self.engine.draft(self.records[record], by=self.people[who], **{field: value}))
        if row is not None:
            self.seen[row.pk][field] = {stored}

    @rule(record=RECORDS, who=PEOPLE, field=FIELDS, data=st.data())
    def edit(self, record: int, who: str, field: str, data: st.DataObject) -> None:
        self.draft(record, who, field, data)
        self.commit(who)

    @rule(who=PEOPLE)
    def commit(self, who: str) -> None:
        commit(membership=self.member(who))

    @rule(who=PEOPLE)
    def discard(self, who: str) -> None:
        discard_drafts(membership=self.member(who))

    @rule(who=PEOPLE, number=st.integers(0, 20), what=st.sampled_from(["withdraw", "retry", "discard"]))
    def decide(self, who: str, number: int, what: str) -> None:
        rows = list(Modification.objects.exclude(committed_at=None).order_by("saved_at", "pk"))
        if not rows:
            return
        row, member = rows[number % len(rows)], self.member(who)
        acts: dict[str, Any] = {"withdraw": withdraw_modification, "retry": retry_modification}
        if what == "discard":
            discard_dead_letters(membership=member, modification_ids=[row.pk], reason="no")
        elif self.tolerating(lambda: acts[what](membership=member, modification=row)) and what == "withdraw":
            self.applied_when_withdrawn[row.pk] = len(self.engine.applied(row))

    @rule(who=PEOPLE, resolution=st.sampled_from(Resolution.values[:2]))
    def resolve(self, who: str, resolution: str) -> None:
        conflict = Conflict.objects.unresolved().order_by("opened_at").first()
        if conflict is not None:
            wanted = Resolution(resolution)
            done = self.tolerating(lambda: resolve(membership=self.member(who), conflict=conflict, resolution=wanted))
            if done is not None and done.requeued:
                row = self.engine.row(conflict.modification)
                self.seen[row.pk] = {name: {row.record.fields[name]} for name in row.changes}

    # ---------------------------------------------------------------- workers

    @rule()
    def claim(self) -> None:
        self.engine.skip_waits()
        self.claims += self.engine.claim()

    @precondition(lambda self: self.claims)
    @rule(fault=FAULTS, twice=st.booleans())
    def deliver(self, fault: str | None, twice: bool) -> None:
        claim = self.claims.pop(0)
        if fault:
            details = {"version_jump": {"n": 2}, "late_apply": {"seconds": 0.06}}.get(fault, {})
            self.engine.sandbox.script(fault, operation="ANY", **details)
        for _ in range(1 + twice):
            delivery.deliver(claim.delivery_id)
        self.engine.sandbox.clear_faults()
        self.engine.skip_waits()

    @precondition(lambda self: self.claims)
    @rule(started=st.booleans())
    def die(self, started: bool) -> None:
        """The worker is killed before or after its start, before it sent anything."""
        rows = held_rows(self.claims.pop(0).delivery_id)
        if started and rows:
            start(*encoded(rows), total_seconds=1)
        self.engine.expire_leases()
        self.claims.clear()

    @rule()
    def prove(self) -> None:
        self.engine.prove()

    @rule()
    def work_for_a_while(self) -> None:
        self.engine.settle(rounds=3)
        self.claims.clear()

    # ---------------------------------------------------------------- PEMS

    @rule(record=RECORDS, field=FIELDS, by=st.sampled_from(["pems.user", "rio-planner"]), data=st.data())
    def foreign_edit(self, record: int, field: str, by: str, data: st.DataObject) -> None:
        change = {field: data.draw(VALUES[field])}
        self.engine.sandbox.edit(self.records[record].pfa_id, change, modified_by=by)

    @rule()
    def pull(self) -> None:
        self.engine.pull()

    # ---------------------------------------------------------------- always, and in the end

    @invariant()
    def what_must_stay_true(self) -> None:
        assert_invariants(self.engine.organization)

    def teardown(self) -> None:
        try:
            self.come_to_rest()
            self.assert_applied_as_decided()
            self.assert_nothing_was_overwritten_unseen()
        finally:
            transaction.set_rollback(True)
            self.undo.__exit__(None, None, None)

    def come_to_rest(self) -> None:
        self.engine.sandbox.clear_faults()
        time.sleep(0.07)  # what is applied late is applied now
        for _ in range(6):
            self.engine.expire_leases()
            self.engine.settle(rounds=30)
            for conflict in Conflict.objects.unresolved():
                self.tolerating(
                    lambda conflict=conflict: resolve(
                        membership=self.member("planner"), conflict=conflict, resolution=Resolution.USE_PEMS
                    )
                )
        assert not Modification.objects.filter(state__in=[State.QUEUED, State.SENDING, State.UNKNOWN]).exists()
        writes = self.engine.sandbox.stats()["writes"]
        self.engine.settle()
        assert self.engine.sandbox.stats()["writes"] == writes, "when edits stop, writes stop"
        self.engine.pull()
        assert_stored_equals_pems(self.engine)
        assert_invariants(self.engine.organization)
        self.assert_nothing_is_found()

    def assert_nothing_is_found(self) -> None:
        """What `manage.py verify` asks of any database, and the count of each minute."""
        found = verifying.verify([self.engine.organization], whole=True)
        assert [each for each in found if not each.ok] == []
        assert [each.difference for each in conserving.check_all(database_now())] == [0, 0]

    def assert_applied_as_decided(self) -> None:
        """I1: once between two human decisions; exactly once where PEMS's answer confirmed it."""
        assert self.engine.sandbox.stats()["keys"]["reusedForAnotherRequest"] == []
        applied = [entry["idempotencyKey"] for entry in self.engine.sandbox.audit()]
        assert all(applied.count(key) == 1 for key in applied if key)
        for row in Modification.objects.prefetch_related("ledger"):
            times = sum(applied.count(str(key)) for key in {attempt.idempotency_key for attempt in row.ledger.all()})
            entries = JournalEntry.objects.filter(modification_id=row.pk)
            decisions = entries.filter(kind__in=["conflict_resolved", "modification_queued", "read_back_asked"]).count()
            assert times <= max(1, decisions), (row.pk, times)
            how = entries.filter(kind="modification_confirmed").first()
            if how is not None and how.after["how"] == "answer":
                assert times >= 1
            assert times == self.applied_when_withdrawn.get(row.pk, times), "what was taken back never lands"
            if row.committed_at is None:
                assert times == 0

    def assert_nothing_was_overwritten_unseen(self) -> None:
        """What each of our writes replaced is what its people had looked at, their own work, or the same value."""
        attempts = Attempt.objects.select_related("modification__author")
        by_key = {str(attempt.idempotency_key): attempt.modification for attempt in attempts}
        own: dict[tuple[str, str, str], set[Any]] = defaultdict(set)
        for entry in self.engine.sandbox.audit():
            row = by_key.get(entry["idempotencyKey"])
            for name, value in {**entry["changes"], **entry["adjusted"]}.items() if row else ():
                mine = own[row.pfa_id, row.author.username, name]
                if name in row.changes:
                    known = self.looked_at(row, name) | mine | {entry["changes"].get(name)}
                    assert entry["before"][name] in known, (entry, known)
                mine.add(value)

    def looked_at(self, row: Modification, name: str) -> set[Any]:
        folded = Modification.objects.filter(superseded_by=row)
        return self.seen[row.pk].get(name, set()).union(*(self.looked_at(each, name) for each in folded))

    def member(self, who: str) -> Any:
        return self.engine.member(self.people[who])

    def tolerating(self, act: Any) -> Any:
        """People are told when something is not possible; that is no defect. None then."""
        with contextlib.suppress(DomainError):
            return act()
        return None


@pytest.fixture(autouse=True)
def _really_committed() -> None:
    """Not here: one thread, and each example is rolled back."""


@pytest.mark.parametrize("seed", [random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID")).randrange(10**6)])
def test_any_order_of_events_keeps_the_invariants(engine, cast, seed):
    machine = type(
        "Machine", (Planners,), {"engine": engine, "people": {"planner": cast.planner, "second": cast.second}}
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            database=None,
        ),
    )
