"""Policies, and what a proposed one would have done."""

from __future__ import annotations

from rest_framework.serializers import BooleanField, CharField, ChoiceField, IntegerField, JSONField, UUIDField

from pems_sync.api.shapes.base import Shape
from pems_sync.policies import RULED, Rule


class RuleShape(Shape):
    field = ChoiceField(RULED)
    rule = ChoiceField([rule.value for rule in Rule])


class PoliciesShape(Shape):
    organizationId = CharField()
    rules = RuleShape(many=True, help_text="fields without one ask a person")
    moneyThreshold = CharField(allow_null=True, help_text="an amount changed by more than this is never settled")
    mergeDisjoint = BooleanField(help_text="PEMS moved in other fields only: go on without asking")
    secondApproval = BooleanField()


class SettledItem(Shape):
    conflictId = UUIDField()
    pfaId = CharField()
    field = CharField()
    person = JSONField(allow_null=True, help_text="the value that a person let stand")
    policy = JSONField(allow_null=True, help_text="the value that the policy would have let stand")
    masked = BooleanField()


class SimulationShape(Shape):
    conflicts = IntegerField(help_text="decided by people, and replayed")
    settled = IntegerField(help_text="of those: the proposal would have settled them")
    alike = IntegerField(help_text="settled as people did")
    differently = IntegerField(help_text="settled otherwise than people did")
    unchanged = IntegerField(help_text="would have gone to a person all the same")
    items = SettledItem(many=True, help_text="each field settled otherwise, newest conflict first, at most 200")
    truncated = BooleanField(help_text="there are more items than are listed")
