"""Committed edits: where each one stands and why; retry, withdraw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField

from pems_sync.access import modification_for
from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint, body_of, id_from, member_by_query
from pems_sync.api.explaining import explain
from pems_sync.api.paging import Order
from pems_sync.api.presenting import modification_shape, sees_money
from pems_sync.api.strict import NoQuery, Paged, Said, Slug, Strict, Text, checked, checked_query
from pems_sync.api.telling import conflict_of, entries_of, ledger_of, timeline_of
from pems_sync.api.wire import STATUS_WORDS, having_status
from pems_sync.clock import database_now
from pems_sync.models import JournalEntry, Membership, Modification
from pems_sync.models.organization import Permission
from pems_sync.services.people import retry_modification, withdraw_modification
from pems_sync.states import State

_ORDER = Order("modifications", ("-saved_at", "id"))


class ModificationsQuery(Paged):
    organizationId = Slug()
    status = ChoiceField(STATUS_WORDS, required=False)
    pfaId = Text(required=False, max_length=64)


class ModificationsView(Endpoint):
    @extend_schema(
        "list_modifications",
        parameters=[ModificationsQuery],
        responses={200: shapes.page_of(shapes.ModificationShape), **shapes.answers(400, 404)},
    )
    def get(self, request: Request) -> Response:
        """Newest first. Of drafts only mine."""
        membership = member_by_query(request)
        query = checked_query(ModificationsQuery, request.query_params)
        rows = _visible(membership).select_related("organization", "author")
        if "status" in query:
            rows = rows.filter(having_status(query["status"]))
        if "pfaId" in query:
            rows = rows.filter(pfa_id=query["pfaId"])
        page = _ORDER.page(rows, limit=query["limit"], cursor=query.get("cursor"), scope=membership.organization_id)
        return Response({"items": _shapes(page.rows, membership), "nextCursor": page.next_cursor})


def _visible(membership: Membership) -> QuerySet[Modification]:
    rows = Modification.objects.for_organization(membership.organization)
    return rows.filter(Q(committed_at__isnull=False) | Q(author=membership.user))


def _shapes(rows: Sequence[Modification], membership: Membership) -> list[dict[str, Any]]:
    money = sees_money(membership)
    conflicts = _conflicts([row for row in rows if row.state == State.CONFLICTED], membership)
    return [modification_shape(row, money=money, conflict_id=conflicts.get(row.pk)) for row in rows]


def _conflicts(rows: Sequence[Modification], membership: Membership) -> dict[Any, str]:
    """The open conflict of each, from the journal: the engine does not know the app that keeps them."""
    entries = JournalEntry.objects.filter(
        modification_id__in=[row.pk for row in rows],
        organization=membership.organization,
        kind="modification_conflicted",
    )
    return {entry.modification_id: entry.details["conflictId"] for entry in entries.order_by("position")}


class ModificationView(Endpoint):
    @extend_schema("get_modification", responses={200: shapes.ModificationStory, **shapes.answers(400, 404)})
    def get(self, request: Request, modification_id: str) -> Response:
        """With its timeline: every state and attempt, why it waits, what happens next, who must act."""
        membership, row = modification_for(request.user, id_from(modification_id))
        checked_query(NoQuery, request.query_params)
        return Response(story_of(row, membership))


def story_of(row: Modification, membership: Membership) -> dict[str, Any]:
    money = sees_money(membership)
    row.organization = membership.organization
    entries, ledger = entries_of(row), ledger_of(row, money=money)
    return {
        **modification_shape(row, money=money, conflict_id=conflict_of(entries)),
        "explanation": explain(row, now=database_now(), money=money).as_wire(),
        "timeline": list(timeline_of(entries, ledger, money=money)),
        "ledger": ledger,
    }


class WithdrawBody(Strict):
    reason = Said(required=False)


class RetryView(Endpoint):
    @extend_schema(
        "retry_modification",
        request=None,
        responses={200: shapes.ModificationStory, **shapes.answers(400, 403, 404, 409, 413, 415)},
    )
    def post(self, request: Request, modification_id: str) -> Response:
        """Legal from failed and retrying."""
        membership, row = modification_for(request.user, id_from(modification_id), Permission.SYNC)
        checked_query(NoQuery, request.query_params)
        checked(NoQuery, body_of(request))
        retry_modification(membership=membership, modification=row)
        return Response(story_of(_again(request, row), membership))


class WithdrawView(Endpoint):
    @extend_schema(
        "withdraw_modification",
        request=WithdrawBody,
        responses={200: shapes.ModificationStory, **shapes.answers(400, 403, 404, 409, 413, 415)},
    )
    def post(self, request: Request, modification_id: str) -> Response:
        """Legal from draft, queued, retrying, failed and conflict, unless it may still land."""
        membership, row = modification_for(request.user, id_from(modification_id), Permission.SYNC)
        checked_query(NoQuery, request.query_params)
        reason = checked(WithdrawBody, body_of(request)).get("reason", "")
        withdraw_modification(membership=membership, modification=row, reason=reason)
        return Response(story_of(_again(request, row), membership))


def _again(request: Request, row: Modification) -> Modification:
    return modification_for(request.user, row.pk)[1]
