"""A proposed policy, replayed over what people decided before."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from conflicts.simulating import simulate
from pems_sync.api.endpoint import Endpoint, body_of, member_by_body
from pems_sync.api.policies import Proposal, proposed
from pems_sync.api.presenting import sees_money
from pems_sync.api.shapes import answers
from pems_sync.api.shapes.policies import SimulationShape
from pems_sync.api.strict import Moment, NoQuery, checked, checked_query
from pems_sync.models.organization import Permission


class SimulationBody(Proposal):
    since = Moment(required=False, help_text="only conflicts resolved at that time or later")


class SimulateView(Endpoint):
    @extend_schema(
        "simulate_policies",
        request=SimulationBody,
        responses={200: SimulationShape, **answers(400, 403, 404, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """How many past conflicts the proposal would have settled, and where it differs from what people chose.
        Nothing is changed."""
        membership = member_by_body(request, body_of(request), Permission.READ)
        checked_query(NoQuery, request.query_params)
        wanted = checked(SimulationBody, body_of(request))
        result = simulate(membership.organization, proposed(membership.organization, wanted), since=wanted.get("since"))
        return Response(result.as_wire(money=sees_money(membership)))
