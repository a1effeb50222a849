"""Maintenance windows of an organization's connection: what is planned, and orders of those who manage all that share it."""

from __future__ import annotations

import re
from datetime import date, time
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import DateField, ListField

from pems_sync.access import managed_connection, membership_for
from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, body_of
from pems_sync.api.strict import NoQuery, Said, Strict, Text, Whole, checked, checked_query
from pems_sync.clock import database_now
from pems_sync.errors import NotFoundError
from pems_sync.maintenance import timetable_of
from pems_sync.models import MaintenanceWindow
from pems_sync.models.organization import Permission
from pems_sync.services.maintaining import Plan, add_window, as_wire, remove_window, windows_of

_WIRE = {"last_day": "lastDay"}


class LocalTime(Text):
    """`22:00`, as text."""

    def run_validation(self, data: Any = "") -> Any:
        text = super().run_validation(data)
        if isinstance(text, str) and not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text, re.ASCII):
            raise ValidationError([ErrorDetail("must be a time from 00:00 to 23:59.", code="invalid")])
        return text


class Day(DateField):
    """`2026-01-31`, as text."""

    def to_internal_value(self, value: Any) -> date:
        if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            self.fail("invalid", format="2026-01-31")
        return super().to_internal_value(value)


class WindowBody(Strict):
    name = Said()
    starts = LocalTime(max_length=5, help_text="HH:MM in that time zone")
    minutes = Whole(help_text="1 to 10080; it may reach into other days")
    timezone = Text(required=False, max_length=64, default="UTC")
    weekdays = ListField(child=Whole(), required=False, max_length=7, help_text="0 Monday … 6 Sunday; empty: every day")
    firstDay = Day(required=False, allow_null=True)
    lastDay = Day(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        plan = Plan(
            name=attrs["name"], starts=time.fromisoformat(attrs["starts"]), minutes=attrs["minutes"],
            timezone=attrs["timezone"], weekdays=tuple(attrs.get("weekdays", ())),
            first_day=attrs.get("firstDay"), last_day=attrs.get("lastDay"),
        )  # fmt: skip
        problems = plan.problems()
        if problems:
            raise ValidationError(
                {_WIRE.get(field, field): [ErrorDetail(text, code="invalid")] for field, text in problems.items()}
            )
        return {"plan": plan}


class WindowsView(Endpoint):
    @extend_schema("list_maintenance", responses={200: shapes.WindowsShape, **shapes.answers(400, 404)})
    def get(self, request: Request, organization_id: str) -> Response:
        """While one is open nothing is sent to PEMS and nothing is read from it."""
        organization = membership_for(request.user, organization_id).organization
        checked_query(NoQuery, request.query_params)
        items = [_shape(each) for each in windows_of(organization.connection)]
        return Response({"organizationId": organization.slug, "items": items})

    @extend_schema(
        "add_maintenance",
        request=WindowBody,
        responses={201: shapes.WindowShape, **shapes.answers(400, 403, 404, 413, 415)},
    )
    def post(self, request: Request, organization_id: str) -> Response:
        """For the whole connection. Needs `manage` in every organization that shares it."""
        membership = membership_for(request.user, organization_id, Permission.MANAGE)
        connection = managed_connection(membership)
        plan: Plan = checked(WindowBody, body_of(request))["plan"]
        return Response(_shape(add_window(connection, plan, actor=membership.user.get_username())), status=201)


class WindowView(Endpoint):
    @extend_schema("remove_maintenance", request=None, responses={204: None, **shapes.answers(400, 403, 404)})
    def delete(self, request: Request, organization_id: str, window_id: str) -> Response:
        """Needs `manage` in every organization that shares the connection. What waits for its end goes at once."""
        membership = membership_for(request.user, organization_id, Permission.MANAGE)
        connection = managed_connection(membership)
        checked_query(NoQuery, request.query_params)
        if not re.fullmatch(r"[0-9]{1,18}", window_id, re.ASCII):
            raise NotFoundError
        remove_window(connection, int(window_id), actor=membership.user.get_username())
        return Response(status=204)


def _shape(window: MaintenanceWindow) -> dict[str, Any]:
    return {**as_wire(window), "open": timetable_of(window).open_until(database_now()) is not None}
