"""Policies over the API: what the machine may settle by itself, looked at and changed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import JSONField, ListField

from pems_sync.api.endpoint import Endpoint, body_of, member_by_body, member_by_query
from pems_sync.api.shapes import answers
from pems_sync.api.shapes.policies import PoliciesShape
from pems_sync.api.strict import Flag, NoQuery, Slug, Strict, Text, checked, checked_query
from pems_sync.fields import FIELDS, FieldError
from pems_sync.models import Organization
from pems_sync.models.organization import Permission
from pems_sync.policies import Policies
from pems_sync.services.policing import Standing, checked_rules, set_policies, standing_of


class Amount(JSONField):
    """A decimal string or number of at most two places, not negative; null for none."""

    def to_internal_value(self, data: Any) -> Any:
        try:
            amount = FIELDS["monthlyRate"].parse(data)
        except FieldError as error:
            raise ValidationError([ErrorDetail(f"{error.message}.", code="invalid")]) from error
        if amount is None or Decimal(str(amount)) < 0:
            raise ValidationError([ErrorDetail("must be an amount of 0 or more, or null.", code="invalid")])
        return Decimal(str(amount))


class RuleBody(Strict):
    field = Text(max_length=64)
    rule = Text(max_length=20)


class Proposal(Strict):
    """All rules that are to stand: a field that is not named asks. What is absent of the rest stays as it is."""

    organizationId = Slug()
    rules = ListField(child=RuleBody(), max_length=len(FIELDS))
    moneyThreshold = Amount(required=False, allow_null=True)
    mergeDisjoint = Flag(required=False)

    def validate_rules(self, rules: list[dict[str, str]]) -> dict[str, str]:
        named = {each["field"]: each["rule"] for each in rules}
        if len(named) < len(rules):
            raise ValidationError([ErrorDetail("name a field twice.", code="repeated")])
        return named


class PoliciesBody(Proposal):
    secondApproval = Flag(required=False)


def proposed(organization: Organization, wanted: Mapping[str, Any]) -> Policies:
    """The proposal, filled up with what stands. Raises InvalidPolicyError."""
    return Policies(
        checked_rules(wanted["rules"]),
        wanted.get("moneyThreshold", organization.money_threshold),
        wanted.get("mergeDisjoint", organization.merge_disjoint),
    )


class PoliciesQuery(Strict):
    organizationId = Slug()


class PoliciesView(Endpoint):
    @extend_schema("get_policies", parameters=[PoliciesQuery], responses={200: PoliciesShape, **answers(400, 404)})
    def get(self, request: Request) -> Response:
        """What the machine may settle by itself where both sides changed the same."""
        membership = member_by_query(request)
        checked_query(PoliciesQuery, request.query_params)
        return Response(_shape(membership.organization, standing_of(membership.organization)))

    @extend_schema(
        "set_policies",
        request=PoliciesBody,
        responses={200: PoliciesShape, **answers(400, 403, 404, 413, 415)},
    )
    def put(self, request: Request) -> Response:
        """Takes the place of all rules. Edits that clash from here on are settled by them; open conflicts wait for
        their person. Whatever the rules, large amounts, actualized records, split groups and broken rules ask."""
        membership = member_by_body(request, body_of(request), Permission.MANAGE)
        checked_query(NoQuery, request.query_params)
        wanted = checked(PoliciesBody, body_of(request))
        organization = membership.organization
        second_approval = wanted.get("secondApproval", organization.second_approval)
        standing = set_policies(
            membership=membership, policies=proposed(organization, wanted), second_approval=second_approval
        )
        return Response(_shape(organization, standing))


def _shape(organization: Organization, standing: Standing) -> dict[str, Any]:
    return {"organizationId": organization.slug, **standing.as_wire()}
