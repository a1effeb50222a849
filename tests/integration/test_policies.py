"""Policies at work: what is settled without a person, what stays with one, and who may change them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from conflicts.models import Conflict
from pems_sync import inbound
from pems_sync.client.base import PemsRecord
from pems_sync.clock import database_now
from pems_sync.journal import unit_of_work
from pems_sync.models import JournalEntry, Membership, Modification, Organization, Record
from pems_sync.models.policy import FieldPolicy
from pems_sync.services.moves import Moves
from pems_sync.services.policing import policies_of, set_policy, settle_by_policy
from pems_sync.states import State
from tests.integration import api_acts as acts
from tests.integration.foreign import shown_by_pems
from tests.invariants import assert_applied_once, assert_invariants


def rule(cast, **rules):
    for field, word in rules.items():
        set_policy(membership=acts.member(cast.admin), field=field, rule=word)


def kinds_of(row):
    return list(JournalEntry.objects.filter(modification_id=row.pk).order_by("position").values_list("kind", flat=True))


class TestQueued:
    """PEMS moves the same field under an edit that waits."""

    def test_without_a_rule_a_person_is_asked(self, cast, rio, make_record):
        row = acts.queued(record := make_record(rio), cast.planner, model="A")
        shown_by_pems(record, model="B")
        assert acts.fresh(row).state == State.CONFLICTED

    def test_our_value_stands_and_is_sent_at_the_new_version(self, cast, rio, make_record):
        rule(cast, model="local_wins")
        row = acts.queued(record := make_record(rio), cast.planner, model="A", areaSilo="East")
        shown_by_pems(record, model="B")
        row = acts.fresh(row)
        assert (row.state, row.expected_version) == (State.QUEUED, record.version)
        assert row.changes == {"model": "A", "areaSilo": "East"}
        assert row.base["model"] == "B"
        assert row.base["areaSilo"] == "North"
        assert not Conflict.objects.exists()

    def test_a_decided_field_that_moves_again_is_compared_with_what_was_decided_on(self, cast, rio, make_record):
        rule(cast, model="local_wins")
        row = acts.queued(record := make_record(rio), cast.planner, model="A")
        shown_by_pems(record, model="B")
        FieldPolicy.objects.all().delete()
        shown_by_pems(record, areaSilo="East")
        assert acts.fresh(row).state == State.QUEUED
        shown_by_pems(record, model="C")
        row = acts.fresh(row)
        assert row.state == State.CONFLICTED
        assert Conflict.objects.get(modification=row).fields[0]["base"] == "B"

    def test_what_pems_wins_leaves_the_edit_and_the_rest_goes_on(self, cast, rio, make_record):
        rule(cast, forecastEnd="pems_wins", forecastStart="pems_wins")
        row = acts.queued(record := make_record(rio), cast.planner, model="A", forecastEnd="2026-08-01")
        shown_by_pems(record, forecastEnd="2026-09-01")
        row = acts.fresh(row)
        assert (row.state, row.changes, row.expected_version) == (State.QUEUED, {"model": "A"}, record.version)
        assert set(row.base) == {"model", "isDiscontinued"}

    def test_what_is_left_and_was_done_by_pems_already_is_not_written_again(self, cast, rio, make_record):
        rule(cast, model="pems_wins")
        row = acts.queued(record := make_record(rio), cast.planner, model="A", areaSilo="East")
        shown_by_pems(record, model="B", areaSilo="East")
        row = acts.fresh(row)
        assert (row.state, row.changes) == (State.CONFIRMED, {"areaSilo": "East"})
        assert (
            JournalEntry.objects.get(modification_id=row.pk, kind="modification_confirmed").after["how"] == "converged"
        )

    def test_an_edit_of_which_nothing_is_left_is_withdrawn_and_says_why(self, cast, rio, make_record):
        rule(cast, model="pems_wins")
        record = make_record(rio)
        row, later = acts.queued(record, cast.planner, model="A"), acts.queued(record, cast.second, areaSilo="East")
        shown_by_pems(record, model="B")
        row = acts.fresh(row)
        assert (row.state, row.changes) == (State.WITHDRAWN, {"model": "A"})
        entry = JournalEntry.objects.get(modification_id=row.pk, kind="modification_withdrawn")
        assert (entry.actor, entry.on_behalf_of) == ("policy", "rio-planner")
        assert entry.reason == "PEMS's values stand by policy: model"
        assert acts.fresh(later).is_head, "the lane moves on"
        assert row.job.finished_at is not None
        assert_invariants(rio)

    def test_the_newest_wins_by_the_time_of_the_commit(self, cast, rio, make_record):
        rule(cast, model="newest")
        row = acts.queued(record := make_record(rio), cast.planner, model="A")
        shown_by_pems(record, model="B")  # now, after the commit
        assert acts.fresh(row).state == State.WITHDRAWN

    def test_a_larger_change_than_the_threshold_asks_whatever_the_rule(self, cast, rio, make_record):
        rule(cast, monthlyRate="local_wins")
        Organization.objects.update(money_threshold="1000")
        small, large = make_record(rio), make_record(rio)
        rows = [acts.queued(each, cast.planner, monthlyRate="5600.00") for each in (small, large)]
        shown_by_pems(small, monthlyRate="5700.00")
        shown_by_pems(large, monthlyRate="6500.01")
        assert [acts.fresh(row).state for row in rows] == [State.QUEUED, State.CONFLICTED]

    @pytest.mark.parametrize("moved", [{"isDiscontinued": True}, {"isDiscontinued": True, "model": "B"}])
    def test_other_kinds_of_conflict_always_ask(self, cast, rio, make_record, moved):
        rule(cast, model="local_wins")
        row = acts.queued(record := make_record(rio), cast.planner, model="A")
        shown_by_pems(record, **moved)
        assert Conflict.objects.get(modification=row).kind == "edit_discontinued"

    def test_a_record_that_was_actualized_when_the_planner_saw_it_asks(self, cast, rio, make_record):
        rule(cast, model="local_wins")
        row = acts.queued(record := make_record(rio, isActualized=True), cast.planner, model="A")
        shown_by_pems(record, model="B", isActualized=False)
        assert acts.fresh(row).state == State.CONFLICTED

    def test_an_edit_that_may_still_land_is_not_touched(self, cast, rio, make_record):
        """PROTOCOL: exposed may only be resent byte for byte."""
        rule(cast, model="pems_wins")
        row = acts.queued(record := make_record(rio), cast.planner, model="A", areaSilo="East")
        Modification.objects.filter(pk=row.pk).update(exposed=True)
        record.fields |= {"model": "B"}
        with unit_of_work() as work:
            held = acts.fresh(row)
            assert not settle_by_policy(Moves(work), held, record, ("model",))

    def test_the_journal_tells_what_was_given_up_for_what(self, cast, rio, make_record):
        rule(cast, model="pems_wins")
        row = acts.queued(record := make_record(rio), cast.planner, model="A", areaSilo="East")
        shown_by_pems(record, model="B")
        entry = JournalEntry.objects.get(modification_id=row.pk, kind="modification_merged_by_policy")
        assert (entry.actor, entry.before, entry.seq) == ("policy", {"model": "A"}, None)
        assert entry.after == {"values": {"model": "B"}, "givenUp": ["model"], "expectedVersion": record.version}
        assert entry.reason == "model: pems_wins"
        assert_invariants(rio)


def test_a_draft_at_risk_is_settled_when_it_is_committed(cast, rio, make_record):
    rule(cast, model="local_wins")
    draft = acts.draft(record := make_record(rio), cast.planner, model="A")
    shown_by_pems(record, model="B")
    assert acts.fresh(draft).at_risk == ["model"]
    acts.commit(membership=acts.member(cast.planner), modification_ids=[draft.pk])
    row = acts.fresh(draft)
    assert (row.state, row.expected_version) == (State.QUEUED, record.version)


class TestUnderWay:
    """PEMS answers 409 to an edit that is being sent."""

    def test_our_value_stands_and_reaches_pems_once(self, engine, cast):
        rule(cast, model="local_wins")
        row = engine.edit(engine.records[0], model="OURS")
        engine.sandbox.edit(row.pfa_id, {"model": "THEIRS"})
        engine.settle()
        assert engine.state(row) == State.CONFIRMED
        assert engine.in_pems(row.record)["model"] == "OURS"
        assert len(engine.applied(row)) == 1
        assert "modification_merged_by_policy" in kinds_of(row)
        assert_invariants(engine.organization)
        assert_applied_once(engine)

    def test_pems_stands_and_nothing_more_is_sent(self, engine, cast):
        rule(cast, model="pems_wins")
        row = engine.edit(engine.records[0], model="OURS")
        engine.sandbox.edit(row.pfa_id, {"model": "THEIRS"})
        engine.settle()
        assert engine.state(row) == State.WITHDRAWN
        assert engine.in_pems(row.record)["model"] == "THEIRS"
        assert not engine.applied(row)
        assert kinds_of(row)[-3:] == ["modification_merged_by_policy", "delivery_returned", "modification_withdrawn"]
        assert_invariants(engine.organization)
        assert_applied_once(engine)


class TestUnknown:
    """Its reply was lost, and the read-back shows that another write took its version."""

    @pytest.mark.parametrize(("word", "state", "stands"), [
        ("pems_wins", State.WITHDRAWN, "THEIRS"), ("local_wins", State.CONFIRMED, "OURS"),
    ])  # fmt: skip
    def test_it_is_settled_once_it_can_not_land_any_more(self, engine, cast, word, state, stands):
        rule(cast, model=word)
        row = engine.edit(engine.records[0], model="OURS")
        engine.sandbox.script("reset_before", pfaId=row.pfa_id)
        engine.send()
        assert engine.state(row) == State.UNKNOWN
        engine.sandbox.edit(row.pfa_id, {"model": "THEIRS"})
        assert engine.state(row) == State.UNKNOWN
        engine.settle()
        assert engine.state(row) == state
        assert engine.in_pems(row.record)["model"] == stands
        assert len(engine.applied(row)) == (word == "local_wins")
        assert_invariants(engine.organization)


class TestMergeSwitchedOff:
    """Auto-merge of disjoint changes is each organization's choice."""

    @pytest.fixture(autouse=True)
    def _off(self, rio):
        Organization.objects.update(merge_disjoint=False)
        rio.refresh_from_db()

    def test_what_pems_moved_elsewhere_asks_under_a_queued_edit(self, cast, rio, make_record):
        row = acts.queued(record := make_record(rio), cast.planner, model="A")
        shown_by_pems(record, areaSilo="East", hasActuals=True)
        conflict = Conflict.objects.get(modification=row)
        assert (conflict.kind, acts.fresh(row).state) == ("edit_edit", State.CONFLICTED)
        shown_values = {each["name"]: (each["base"], each["ours"], each["theirs"]) for each in conflict.fields}
        assert shown_values == {"model": ("330", "A", "330"), "areaSilo": ("North", "North", "East")}

    def test_it_asks_under_an_edit_on_its_way_too(self, engine):
        row = engine.edit(engine.records[0], model="OURS")
        engine.sandbox.edit(row.pfa_id, {"areaSilo": "Elsewhere"})
        engine.settle()
        assert engine.state(row) == State.CONFLICTED
        assert not engine.applied(row)

    def test_a_draft_is_left_alone(self, cast, rio, make_record):
        draft = acts.draft(record := make_record(rio), cast.planner, model="A")
        shown_by_pems(record, areaSilo="East")
        acts.commit(membership=acts.member(cast.planner), modification_ids=[draft.pk])
        assert acts.fresh(draft).state == State.QUEUED


def test_policies_are_read_once_for_a_page_and_not_at_all_where_nothing_clashes(cast, rio, make_record):
    rule(cast, model="local_wins")
    records = [make_record(rio) for _ in range(6)]
    rows = [acts.queued(each, cast.planner, model="A") for each in records]

    def reads_of(**fields):
        now = database_now()
        seen = [
            PemsRecord(each.pfa_id, rio.code, each.version + 1, now, "pems.user", {**each.fields, **fields})
            for each in Record.objects.filter(organization=rio)
        ]
        with CaptureQueriesContext(database) as queries:
            inbound.apply(rio, seen)
        return sum("pems_sync_fieldpolicy" in query["sql"] for query in queries)

    assert reads_of(areaSilo="East") == 0
    assert reads_of(model="B") == 1
    assert {acts.fresh(row).state for row in rows} == {State.QUEUED}


class TestApi:
    PATH = "/api/pems/policies"

    def put(self, client, **body):
        return client.put(self.PATH, {"organizationId": "org-rio", **body}, format="json")

    def test_they_are_shown_and_changed_whole(self, cast, rio, api):
        client = api(cast.admin)
        nothing: dict[str, Any] = {"rules": [], "moneyThreshold": None, "mergeDisjoint": True, "secondApproval": False}
        assert client.get(self.PATH, {"organizationId": "org-rio"}).json() == {"organizationId": "org-rio", **nothing}
        rules = [{"field": "model", "rule": "newest"}, {"field": "areaSilo", "rule": "ask"}]
        answer = self.put(client, rules=rules, moneyThreshold=5000, secondApproval=True)
        assert answer.status_code == 200, answer.json()
        kept = {"rules": rules[:1], "moneyThreshold": "5000.00", "mergeDisjoint": True, "secondApproval": True}
        assert answer.json() == {"organizationId": "org-rio", **kept}
        assert api(cast.viewer).get(self.PATH, {"organizationId": "org-rio"}).json() == answer.json()
        assert self.put(client, rules=[{"field": "class", "rule": "pems_wins"}]).json() == {
            "organizationId": "org-rio", **kept, "rules": [{"field": "class", "rule": "pems_wins"}],
        }  # fmt: skip
        assert self.put(client, rules=[], moneyThreshold=None).json()["moneyThreshold"] is None

    def test_a_change_is_journalled_with_before_and_after_and_no_change_is_not(self, cast, rio, api):
        for _ in range(2):
            self.put(api(cast.admin), rules=[{"field": "model", "rule": "newest"}])
        entry = JournalEntry.objects.get(kind="policies_changed")
        assert (entry.actor, entry.before["rules"]) == ("rio-admin", [])
        assert entry.after["rules"] == [{"field": "model", "rule": "newest"}]
        assert FieldPolicy.objects.get().changed_by == cast.admin

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"rules": [{"field": "model", "rule": "max"}]}, "INVALID_POLICY"),
            ({"rules": [{"field": "model", "rule": "sometimes"}]}, "INVALID_POLICY"),
            ({"rules": [{"field": "description", "rule": "newest"}]}, "INVALID_POLICY"),
            ({"rules": [{"field": "isDiscontinued", "rule": "newest"}]}, "INVALID_POLICY"),
            ({"rules": [{"field": "nonsense", "rule": "newest"}]}, "INVALID_POLICY"),
            ({"rules": [{"field": "model", "rule": "ask"}] * 2}, None),
            ({"rules": [{"field": "model"}]}, None),
            ({"rules": "model"}, None),
            ({}, None),
            ({"rules": [], "moneyThreshold": "-1"}, None),
            ({"rules": [], "moneyThreshold": "1.234"}, None),
            ({"rules": [], "moneyThreshold": "NaN"}, None),
            ({"rules": [], "moneyThreshold": []}, None),
            ({"rules": [], "mergeDisjoint": "yes"}, None),
            ({"rules": [], "secondApproval": 1}, None),
            ({"rules": [], "organization": 1}, None),
        ],
    )
    def test_what_makes_no_sense_is_refused_and_changes_nothing(self, cast, rio, api, body, code):
        answer = self.put(api(cast.admin), **body)
        assert answer.status_code == 400, answer.json()
        assert code is None or answer.json()["error"] == code
        assert not policies_of(rio).rules
        assert not JournalEntry.objects.filter(kind="policies_changed").exists()

    def test_members_without_manage_look_and_strangers_find_nothing(self, cast, rio, api):
        assert self.put(api(cast.lead), rules=[]).status_code == 403
        assert self.put(api(cast.outsider), rules="nonsense").status_code == 404
        assert api(cast.outsider).get(self.PATH, {"organizationId": "org-rio"}).status_code == 404
        assert api(cast.viewer).get(self.PATH, {"organizationId": "org-rio", "x": "1"}).status_code == 400
        Membership.objects.filter(user=cast.viewer).delete()
        assert api(cast.viewer).get(self.PATH, {"organizationId": "org-rio"}).status_code == 404
