"""The journal of an organization, for those who manage it: who did what, when, and what was there before."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpResponseBase
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, member_by_query
from pems_sync.api.paging import Order
from pems_sync.api.presenting import sees_money, shown_document
from pems_sync.api.sheets import as_csv, wants_csv
from pems_sync.api.strict import Moment, Paged, Slug, Text, checked_query
from pems_sync.api.wire import stamp
from pems_sync.models import JournalEntry, Organization
from pems_sync.models.organization import Permission

_ORDER = Order("audit", ("-position",))
_COLUMNS = (
    "position", "at", "event", "pfaId", "modificationId", "actor", "onBehalfOf", "reason", "before", "after", "details",
    "requestId", "address", "hash",
)  # fmt: skip


class _Until(Moment):
    """A day means until its end."""

    def to_internal_value(self, value: Any) -> Any:
        moment = super().to_internal_value(value)
        return moment + timedelta(days=1) if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else moment


class _AuditQuery(Paged):
    organizationId = Slug()
    pfaId = Text(required=False, max_length=64)
    user = Text(required=False, max_length=150, help_text="who acted, or on whose behalf")


AuditQuery: type[_AuditQuery] = type(
    "AuditQuery",
    (_AuditQuery,),
    {"from": Moment(required=False), "to": _Until(required=False, help_text="a time, or a day, which is included")},
)
"""`from` is a word of Python's, so these are named as text."""


class AuditView(Endpoint):
    @extend_schema(
        "list_audit",
        parameters=[AuditQuery],
        responses={
            (200, "application/json"): shapes.page_of(shapes.AuditShape),
            (200, "text/csv"): OpenApiResponse(str, "the same page; its cursor is in X-Next-Cursor"),
            **shapes.answers(400, 403, 404),
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Newest first. `position` counts all entries of the organization without a gap; each `hash` covers its
        predecessor's."""
        membership = member_by_query(request, Permission.MANAGE)
        query = checked_query(AuditQuery, request.query_params)
        rows = _found(membership.organization, query)
        page = _ORDER.page(rows, limit=query["limit"], cursor=query.get("cursor"), scope=membership.organization_id)
        money = sees_money(membership)
        items = [_shape(entry, money=money) for entry in page.rows]
        if wants_csv(request):
            lines = [[item[name] for name in _COLUMNS] for item in items]
            return as_csv("audit", _COLUMNS, lines, page.next_cursor)
        return Response({"items": items, "nextCursor": page.next_cursor})


def _found(organization: Organization, query: dict[str, Any]) -> QuerySet[JournalEntry]:
    rows = JournalEntry.objects.filter(organization=organization)
    if "pfaId" in query:
        rows = rows.filter(pfa_id=query["pfaId"])
    if "user" in query:
        rows = rows.filter(Q(actor=query["user"]) | Q(on_behalf_of=query["user"]))
    if "from" in query:
        rows = rows.filter(recorded_at__gte=query["from"])
    return rows.filter(recorded_at__lt=query["to"]) if "to" in query else rows


def _shape(entry: JournalEntry, *, money: bool) -> dict[str, Any]:
    return {
        "position": entry.position,
        "at": stamp(entry.recorded_at),
        "event": entry.kind,
        "pfaId": entry.pfa_id or None,
        "modificationId": str(entry.modification_id) if entry.modification_id else None,
        "actor": entry.actor,
        "onBehalfOf": entry.on_behalf_of or None,
        "reason": shown_document(entry.reason, money=money) or None,
        "before": shown_document(entry.before, money=money),
        "after": shown_document(entry.after, money=money),
        "details": shown_document(entry.details, money=money),
        "masked": not money,
        "requestId": entry.request_id or None,
        "address": entry.address or None,
        "hash": entry.hash,
    }
