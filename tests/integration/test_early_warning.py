"""Who is told, and stopped, when a record moves under open edits (PROTOCOL, *What is stored* and *Records and inbound*)."""

from __future__ import annotations

import pytest

from conflicts.models import Conflict
from pems_sync import inbound
from pems_sync.models import JournalEntry, Membership
from pems_sync.states import State
from tests.integration import api_acts as acts
from tests.integration.foreign import shown_by_pems


def warnings_of(draft):
    return JournalEntry.objects.filter(modification_id=draft.pk, kind="draft_at_risk").count()


UNTOUCHED = {"description": "painted", "areaSilo": "East"}
FIELD_HIT, PARTNER_HIT = {"forecastEnd": "2026-09-01"}, {"forecastStart": "2026-03-01"}


class TestQueued:
    def test_a_change_elsewhere_advances_the_version_the_edit_expects(self, cast, rio, make_record):
        row = acts.queued(record := make_record(rio), cast.planner, forecastEnd="2026-08-01")
        base = acts.fresh(row).base
        shown_by_pems(record, **UNTOUCHED)
        row = acts.fresh(row)
        assert (row.state, row.expected_version, row.base) == (State.QUEUED, record.version, base)

    @pytest.mark.parametrize("moved", [FIELD_HIT, PARTNER_HIT])
    def test_a_change_of_the_field_or_its_partner_is_a_conflict_at_once(self, cast, rio, make_record, moved):
        row = acts.queued(record := make_record(rio), cast.planner, forecastEnd="2026-08-01")
        shown_by_pems(record, **moved)
        assert acts.fresh(row).state == State.CONFLICTED
        shown = {each["name"]: each for each in Conflict.objects.get(modification=row).fields}
        assert set(shown) == {"forecastEnd", *moved}
        for name, value in moved.items():
            assert shown[name]["theirs"] == value

    def test_a_clash_is_not_forgotten_when_pems_moves_elsewhere_after_it(self, cast, rio, make_record):
        """Queued x: 0 to 1 at v4; v5 sets x = 9; v6 changes y. Seen together or one by one."""
        row = acts.queued(record := make_record(rio), cast.planner, model="A")
        shown_by_pems(record, areaSilo="East")
        shown_by_pems(record, model="B")
        shown_by_pems(record, areaSilo="West")
        assert acts.fresh(row).state == State.CONFLICTED

    def test_pems_making_half_of_the_edit_itself_is_no_conflict_and_a_third_value_later_is(
        self, cast, rio, make_record
    ):
        """K3 inside one edit: nobody disagrees. The base stays, so that the end of the agreement is noticed."""
        row = acts.queued(record := make_record(rio), cast.planner, model="A", areaSilo="East")
        shown_by_pems(record, model="A")
        row = acts.fresh(row)
        assert (row.state, row.expected_version, row.base["model"]) == (State.QUEUED, record.version, "330")
        assert row.changes == {"model": "A", "areaSilo": "East"}
        shown_by_pems(record, model="C")
        assert acts.fresh(row).state == State.CONFLICTED
        assert [each["name"] for each in Conflict.objects.get(modification=row).fields] == ["model"]

    def test_a_confirmed_edit_of_a_colleague_counts_as_any_foreign_change(self, engine, cast):
        record = engine.records[0]
        first = engine.edit(record, model="FIRST")
        clashing = engine.edit(record, by=cast.second, model="SECOND")
        disjoint = engine.edit(record, by=cast.lead, areaSilo="East")
        engine.send()
        assert engine.state(first) == State.CONFIRMED
        assert engine.state(clashing) == State.CONFLICTED
        assert engine.row(disjoint).expected_version == engine.row(first).confirmed_version


class TestDraft:
    def test_a_change_elsewhere_warns_nobody_and_advances_it(self, cast, rio, make_record):
        draft = acts.draft(record := make_record(rio), cast.planner, forecastEnd="2026-08-01")
        shown_by_pems(record, **UNTOUCHED)
        draft = acts.fresh(draft)
        assert (draft.at_risk, draft.expected_version, warnings_of(draft)) == ([], record.version, 0)

    @pytest.mark.parametrize("moved", [FIELD_HIT, PARTNER_HIT])
    def test_the_author_is_warned_once_and_goes_on_editing(self, cast, rio, make_record, moved):
        draft = acts.draft(record := make_record(rio), cast.planner, forecastEnd="2026-08-01")
        seen = acts.fresh(draft).expected_version
        shown_by_pems(record, **moved)
        shown_by_pems(record, areaSilo="East")
        draft = acts.fresh(draft)
        assert (draft.state, draft.at_risk, draft.expected_version) == (State.DRAFT, list(moved), seen)
        entry = JournalEntry.objects.get(modification_id=draft.pk, kind="draft_at_risk")
        assert entry.details == {"changedFields": list(moved)}
        assert entry.seq is not None

    def test_a_confirmed_delivery_warns_the_drafts_of_others(self, engine, cast):
        record = engine.records[0]
        draft = engine.draft(record, by=cast.second, model="MINE")
        engine.edit(record, model="THEIRS")
        engine.settle()
        assert engine.row(draft).at_risk == ["model"]
        assert warnings_of(draft) == 1

    def test_the_planner_sees_all_values_while_they_still_edit(self, cast, rio, make_record, api):
        record = make_record(rio, pfa_id="PFA-1")
        acts.draft(record, cast.planner, monthlyRate="6000.00", forecastEnd="2026-08-01")
        client = api(cast.planner)
        place = "/api/pfa/org-rio"
        assert client.get(f"{place}/drafts/PFA-1").json()["atRiskValues"] == []
        shown_by_pems(record, forecastStart="2026-03-01", monthlyRate="7000.00")
        start = {"name": "forecastStart", "base": "2026-01-15", "ours": "2026-01-15", "theirs": "2026-03-01"}
        rate = {"name": "monthlyRate", "base": "5500.00", "ours": "6000.00", "theirs": "7000.00"}
        wanted = [start | {"masked": False}, rate | {"masked": False}]
        for shown in self.shown_everywhere(client, place):
            assert sorted(shown["atRisk"]) == ["forecastStart", "monthlyRate"]
            assert sorted(shown["atRiskValues"], key=lambda each: each["name"]) == wanted
        member = Membership.objects.get(user=cast.planner)
        member.permissions.remove("view_financials")
        member.save()
        hidden = {"name": "monthlyRate", "base": None, "ours": None, "theirs": None, "masked": True}
        for shown in self.shown_everywhere(client, place):
            assert hidden in shown["atRiskValues"]

    def shown_everywhere(self, client, place):
        yield client.get(f"{place}/drafts/PFA-1").json()
        yield client.get(f"{place}/drafts").json()["items"][0]
        yield client.get(f"{place}/records/PFA-1").json()["draft"]
        yield client.get(f"{place}/records").json()["items"][0]["draft"]

    def test_a_record_that_pems_dropped_shows_no_values_of_pems(self, cast, rio, make_record, api):
        record = make_record(rio, pfa_id="PFA-1")
        acts.draft(record, cast.planner, model="A")
        inbound.mark_gone(record)
        shown = api(cast.planner).get("/api/pfa/org-rio/drafts/PFA-1").json()
        assert shown["atRisk"] == ["isDiscontinued"]
        assert shown["atRiskValues"][0]["theirs"] is None
        assert JournalEntry.objects.filter(kind="draft_at_risk").count() == 1
