"""The page of an organization's policies, and the simulator: who sees and changes what, without a script, with labels."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from conflicts.models import Resolution
from pems_sync.models import JournalEntry, Membership, Organization
from pems_sync.models.policy import FieldPolicy
from pems_sync.policies import RULED
from pems_sync.services.policing import set_policy, standing_of
from tests.integration import api_acts as acts
from tests.integration.admin_cast import list_of, page_of, staff, superuser
from tests.integration.test_simulating import decided

SIMULATOR = reverse("policy_simulator")


def text_of(response):
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def page(**query):
    return list_of("pems_sync_fieldpolicy", **query)


def save(client, *, organization="org-rio", **fields):
    client.get("/admin/")
    client.get(page())
    token = client.cookies["csrftoken"].value if "csrftoken" in client.cookies else ""
    asks = {f"rule_{name}": "ask" for name in RULED}
    form = {**asks, "money_threshold": "", "merge_disjoint": "on", "organization": organization, **fields}
    return client.post(page(), {**form, "csrfmiddlewaretoken": token}, follow=True)


class TestPoliciesPage:
    def test_it_shows_what_stands_with_a_label_for_every_input_and_no_script(self, cast, rio):
        set_policy(membership=acts.member(cast.admin), field="model", rule="newest")
        Organization.objects.update(money_threshold="5000")
        text = text_of(staff(cast.admin).get(page()))
        assert re.search(r'<option value="newest" selected>', text)
        assert 'value="5000.00"' in text
        content = text[text.index('<div id="content"') :]
        inputs = re.findall(r'<(?:select|input)[^>]*\bid="(id_[^"]+)"', content)
        assert len(inputs) == len(RULED) + 3
        assert all(f'for="{each}"' in content for each in inputs)
        assert "<script" not in content
        assert f"{SIMULATOR}?organization=org-rio" in text

    def test_a_member_with_manage_saves_and_it_is_journalled(self, cast, rio):
        answer = save(staff(cast.admin), rule_model="pems_wins", money_threshold="1000.5", second_approval="on")
        assert "The policies of Rio are saved." in text_of(answer)
        standing = standing_of(Organization.objects.get(pk=rio.pk)).as_wire()
        assert standing == {
            "rules": [{"field": "model", "rule": "pems_wins"}], "moneyThreshold": "1000.50", "mergeDisjoint": True,
            "secondApproval": True,
        }  # fmt: skip
        assert JournalEntry.objects.get(kind="policies_changed").actor == "rio-admin"

    @pytest.mark.parametrize("fields", [{"rule_model": "max"}, {"money_threshold": "much"}, {"money_threshold": "-1"}])
    def test_what_makes_no_sense_is_marked_and_nothing_is_saved(self, cast, rio, fields):
        text = text_of(save(staff(cast.admin), rule_areaSilo="pems_wins", **fields))
        assert "Nothing was saved" in text
        assert not FieldPolicy.objects.exists()

    def test_members_without_manage_look_and_cannot_save(self, cast, rio):
        client = staff(cast.lead)
        text = text_of(client.get(page()))
        assert 'value="Save"' not in text
        assert text.count("disabled") >= len(RULED)
        assert "This needs the permission" in text_of(save(client, rule_model="pems_wins"))
        assert not FieldPolicy.objects.exists()

    def test_a_superuser_without_a_membership_sees_and_cannot_save(self, cast, rio):
        client = superuser()
        assert "Policies of" in text_of(client.get(page(organization="org-rio")))
        assert "Only members of the organization decide here" in text_of(save(client, rule_model="pems_wins"))
        assert not FieldPolicy.objects.exists()

    def test_a_foreign_organization_answers_as_one_that_does_not_exist(self, cast, rio, portarthur):
        FieldPolicy.objects.create(organization=portarthur, field="model", rule="newest")
        client = staff(cast.admin)
        for slug in ("org-portarthur", "org-nowhere"):
            assert client.get(page(organization=slug)).headers["Location"] == "/admin/"
            assert save(client, organization=slug).redirect_chain == [("/admin/", 302)]
            assert client.get(SIMULATOR, {"organization": slug}).status_code == 404
        assert FieldPolicy.objects.count() == 1
        foreign = FieldPolicy.objects.get()
        assert client.get(page_of("pems_sync_fieldpolicy", foreign)).status_code == 302

    def test_without_a_token_nothing_is_saved(self, cast, rio):
        client = staff(cast.admin)
        assert client.post(page(), {"organization": "org-rio", "rule_model": "newest"}).status_code == 403


class TestSimulatorPage:
    def replay(self, client, **query):
        return client.get(SIMULATOR, {"organization": "org-rio", "simulate": "yes"} | rules(**query))

    def test_it_replays_the_proposed_rules_and_lists_what_differs(self, cast, rio, make_record):
        conflict = decided(make_record(rio), cast, Resolution.USE_LOCAL)
        client = staff(cast.viewer)
        assert "Result" not in text_of(client.get(SIMULATOR))
        text = text_of(self.replay(client, model="pems_wins"))
        assert "would have settled <strong>1</strong>, of these <strong>1</strong> differently" in text
        row = text[text.index(conflict.pfa_id) :]
        assert re.findall(r"<td>(.*?)</td>", row)[:3] == ["model", "A", "B"]
        assert '<select name="rule_model"' in text
        assert not FieldPolicy.objects.exists()

    def test_amounts_are_hidden_without_view_financials(self, cast, rio, make_record):
        money = {"ours": {"monthlyRate": "6000.00"}, "theirs": {"monthlyRate": "7000.00"}}
        decided(make_record(rio), cast, Resolution.USE_LOCAL, **money)
        assert "7000.00" in text_of(self.replay(staff(cast.viewer), monthlyRate="max"))
        Membership.objects.filter(user=cast.viewer).update(permissions=["read"])
        text = text_of(self.replay(staff(cast.viewer), monthlyRate="max"))
        assert "7000.00" not in text
        assert text.count("<td>hidden</td>") == 2

    def test_what_makes_no_sense_is_marked(self, cast, rio):
        assert "Nothing was replayed" in text_of(self.replay(staff(cast.viewer), model="max"))

    def test_it_is_for_staff_who_are_members(self, cast, rio, client):
        assert client.get(SIMULATOR).status_code == 302
        assert staff(cast.outsider).get(SIMULATOR, {"organization": "org-rio"}).status_code == 404


def rules(**wanted):
    return {f"rule_{name}": wanted.get(name, "ask") for name in RULED} | {"money_threshold": ""}
