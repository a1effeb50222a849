"""A proposed policy replayed over what people decided: counted right, shown to those who may see it, nothing changed."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.test import APIClient

from conflicts.models import Conflict, Resolution
from conflicts.services import resolve
from conflicts.simulating import MOST_ITEMS, simulate
from pems_sync.models import JournalEntry, Membership, Modification, Organization
from pems_sync.policies import Policies, Rule
from pems_sync.services.people import withdraw_modification
from pems_sync.states import State
from tests.integration import api_acts as acts
from tests.integration.admin_cast import make_modification
from tests.integration.foreign import shown_by_pems

PATH = "/api/pems/policies/simulate"


def decided(record, cast, resolution, *, ours=None, theirs=None):
    """A conflict that a person resolved."""
    ours, theirs = ours or {"model": "A"}, theirs or {"model": "B"}
    row = acts.draft(record, cast.planner, **ours)
    acts.moved_in_pems(record, **theirs)
    acts.commit(membership=acts.member(cast.planner), modification_ids=[row.pk])
    conflict = Conflict.objects.select_related("modification").get(modification=row)
    return resolve(membership=acts.member(cast.planner), conflict=conflict, resolution=resolution).conflict


def proposal(**rules):
    return Policies({name: Rule(rule) for name, rule in rules.items()})


def counts(result):
    return result.conflicts, result.settled, result.differently


class TestCounting:
    def test_people_and_policy_are_compared_conflict_by_conflict(self, cast, rio, make_record):
        ours = decided(make_record(rio), cast, Resolution.USE_LOCAL)
        theirs = decided(make_record(rio), cast, Resolution.USE_PEMS)
        result = simulate(rio, proposal(model="pems_wins"))
        assert counts(result) == (2, 2, 1)
        item = result.items[0]
        assert (item.conflict_id, item.pfa_id, item.field) == (ours.pk, ours.pfa_id, "model")
        assert (item.person, item.policy) == ("A", "B")
        assert simulate(rio, proposal(model="local_wins")).items[0].conflict_id == theirs.pk

    def test_what_the_guard_rails_keep_for_a_person_is_not_settled(self, cast, rio, make_record):
        money = {"ours": {"monthlyRate": "6000.00"}, "theirs": {"monthlyRate": "9000.00"}}
        decided(make_record(rio), cast, Resolution.USE_LOCAL, **money)
        actualized = {"ours": {"model": "A"}, "theirs": {"model": "B", "isActualized": True}}
        decided(make_record(rio), cast, Resolution.USE_LOCAL, **actualized)
        rules = proposal(monthlyRate="max", model="pems_wins").rules
        assert counts(simulate(rio, Policies(rules, money_threshold=1000))) == (2, 0, 0)
        assert counts(simulate(rio, Policies(rules, money_threshold=5000))) == (2, 1, 1)

    def test_it_asks_for_kinds_that_always_ask_and_for_fields_without_a_rule(self, cast, rio, make_record):
        decided(make_record(rio), cast, Resolution.USE_PEMS, theirs={"isDiscontinued": True})
        decided(make_record(rio), cast, Resolution.USE_PEMS, ours={"areaSilo": "A"}, theirs={"areaSilo": "B"})
        assert counts(simulate(rio, proposal(model="pems_wins"))) == (2, 0, 0)

    def test_open_conflicts_withdrawn_edits_and_other_organizations_do_not_count(
        self, cast, rio, portarthur, make_record
    ):
        acts.conflicted(make_record(rio), cast.planner)
        withdrawn = acts.conflicted(make_record(rio), cast.planner)
        withdraw_modification(membership=acts.member(cast.planner), modification=withdrawn)
        decided(make_record(rio), cast, Resolution.USE_PEMS)
        assert counts(simulate(rio, proposal(model="pems_wins"))) == (1, 1, 0)
        assert counts(simulate(portarthur, proposal(model="pems_wins"))) == (0, 0, 0)

    def test_only_those_resolved_since(self, cast, rio, make_record):
        decided(make_record(rio), cast, Resolution.USE_PEMS)
        hour = timedelta(hours=1)
        assert counts(simulate(rio, proposal(model="pems_wins"), since=timezone.now() - hour)) == (1, 1, 0)
        assert counts(simulate(rio, proposal(model="pems_wins"), since=timezone.now() + hour)) == (0, 0, 0)

    def test_the_newest_is_told_by_the_times_of_then(self, cast, rio, make_record):
        conflict = decided(make_record(rio), cast, Resolution.USE_PEMS)
        Conflict.objects.update(theirs_at=conflict.modification.committed_at + timedelta(minutes=1))
        assert counts(simulate(rio, proposal(model="newest"))) == (1, 1, 0)
        Conflict.objects.update(theirs_at=conflict.modification.committed_at - timedelta(minutes=1))
        assert counts(simulate(rio, proposal(model="newest"))) == (1, 1, 1)

    def test_a_conflict_of_disjoint_changes_is_settled_by_switching_their_merge_on(self, cast, rio, make_record):
        Organization.objects.update(merge_disjoint=False)
        record = make_record(rio)
        row = acts.queued(record, cast.planner, model="A")
        shown_by_pems(record, areaSilo="East")
        conflict = Conflict.objects.select_related("modification").get(modification=row)
        resolve(membership=acts.member(cast.planner), conflict=conflict, resolution=Resolution.USE_PEMS)
        rules = proposal(model="ask").rules
        assert counts(simulate(rio, Policies(rules, merge_disjoint=False))) == (1, 0, 0)
        result = simulate(rio, Policies(rules))
        assert counts(result) == (1, 1, 1)
        assert [(item.field, item.person, item.policy) for item in result.items] == [("model", "330", "A")]

    def test_the_list_is_capped_and_says_so(self, cast, rio):
        row = make_modification(rio, cast.planner, state=State.WITHDRAWN, finished_at=timezone.now())
        fields = [{"name": "model", "base": "0", "ours": "A", "theirs": "B", "group": None}]
        Conflict.objects.bulk_create(
            Conflict(
                organization=rio, modification=row, pfa_id=row.pfa_id, kind="edit_edit", pems_version=5, fields=fields,
                resolved_at=timezone.now(), resolved_by=cast.planner, resolution=Resolution.USE_LOCAL,
            )
            for _ in range(MOST_ITEMS + 1)
        )  # fmt: skip
        shown = simulate(rio, proposal(model="pems_wins")).as_wire(money=True)
        assert (shown["differently"], len(shown["items"]), shown["truncated"]) == (MOST_ITEMS + 1, MOST_ITEMS, True)

    def test_nothing_is_changed(self, cast, rio, make_record):
        decided(make_record(rio), cast, Resolution.USE_LOCAL)
        before = JournalEntry.objects.count(), list(Modification.objects.values()), list(Conflict.objects.values())
        simulate(rio, proposal(model="pems_wins"))
        after = JournalEntry.objects.count(), list(Modification.objects.values()), list(Conflict.objects.values())
        assert before == after


class TestApi:
    def post(self, client, **body):
        wanted = {"organizationId": "org-rio", "rules": [{"field": "monthlyRate", "rule": "max"}], **body}
        return client.post(PATH, wanted, format="json")

    @pytest.fixture
    def priced(self, cast, rio, make_record):
        money = {"ours": {"monthlyRate": "6000.00"}, "theirs": {"monthlyRate": "7000.00"}}
        return decided(make_record(rio), cast, Resolution.USE_LOCAL, **money)

    def test_a_reader_gets_the_counts_and_the_list(self, cast, api, priced):
        answer = self.post(api(cast.viewer))
        assert answer.status_code == 200, answer.json()
        item = {
            "conflictId": str(priced.pk), "pfaId": priced.pfa_id, "field": "monthlyRate", "person": "6000.00",
            "policy": "7000.00", "masked": False,
        }  # fmt: skip
        assert answer.json() == {
            "conflicts": 1, "settled": 1, "alike": 0, "differently": 1, "unchanged": 0, "items": [item],
            "truncated": False,
        }  # fmt: skip

    def test_amounts_are_hidden_without_view_financials(self, cast, api, priced):
        Membership.objects.filter(user=cast.viewer).update(permissions=["read"])
        item = self.post(api(cast.viewer)).json()["items"][0]
        assert (item["person"], item["policy"], item["masked"]) == (None, None, True)

    def test_the_threshold_of_the_organization_counts_unless_another_is_proposed(self, cast, api, priced):
        Organization.objects.update(money_threshold="100")
        assert self.post(api(cast.viewer)).json()["unchanged"] == 1
        assert self.post(api(cast.viewer), moneyThreshold="2000.00").json()["unchanged"] == 0
        assert self.post(api(cast.viewer), moneyThreshold=None).json()["unchanged"] == 0

    def test_since_and_its_nonsense(self, cast, api, priced):
        assert self.post(api(cast.viewer), since="2100-01-01").json()["conflicts"] == 0
        for body in ({"since": "yesterday"}, {"rules": [{"field": "x", "rule": "max"}]}, {"unknown": 1}):
            assert self.post(api(cast.viewer), **body).status_code == 400

    def test_strangers_find_nothing(self, cast, api, priced):
        assert self.post(APIClient()).status_code == 401
        assert self.post(api(cast.outsider)).status_code == 404


class TestCommand:
    def run(self, *words):
        out = StringIO()
        call_command("simulate_policy", *words, stdout=out)
        return out.getvalue().splitlines()

    def test_it_draws_what_differs_and_ends_in_json(self, cast, rio, make_record):
        conflict = decided(make_record(rio), cast, Resolution.USE_LOCAL)
        lines = self.run("org-rio", "model=pems_wins", "areaSilo=newest")
        assert any(conflict.pfa_id in line and "model" in line for line in lines)
        assert json.loads(lines[-1])["differently"] == 1
        assert [json.loads(line)["settled"] for line in self.run("org-rio", "model=pems_wins", "--json")] == [1]

    def test_the_threshold_is_a_guard_rail_here_too(self, cast, rio, make_record):
        money = {"ours": {"monthlyRate": "6000.00"}, "theirs": {"monthlyRate": "7000.00"}}
        decided(make_record(rio), cast, Resolution.USE_LOCAL, **money)
        for threshold, settled in (("500", 0), ("5000", 1)):
            lines = self.run("org-rio", "monthlyRate=max", "--threshold", threshold, "--json")
            assert json.loads(lines[-1])["settled"] == settled

    @pytest.mark.parametrize(
        "words",
        [
            ("org-nowhere", "model=ask"), ("org-rio", "model"), ("org-rio", "model=max"), ("org-rio", "nonsense=ask"),
            ("org-rio", "model=ask", "model=newest"), ("org-rio", "model=ask", "--threshold", "much"),
            ("org-rio", "model=ask", "--threshold", "-1.00"),
        ],
    )  # fmt: skip
    def test_bad_input_is_said_in_a_sentence_and_ends_with_2(self, rio, words):
        with pytest.raises(CommandError) as refused:
            self.run(*words)
        assert refused.value.returncode == 2
        assert str(refused.value).endswith(".")
