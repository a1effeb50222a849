"""Stored records with my open draft laid over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField

from pems_sync.access import membership_for
from pems_sync.api import shapes
from pems_sync.api.endpoint import Endpoint
from pems_sync.api.paging import Order
from pems_sync.api.presenting import record_shape, sees_money
from pems_sync.api.strict import NoQuery, Paged, Text, checked_query
from pems_sync.api.wire import STATUS_WORDS, having_status
from pems_sync.errors import NotFoundError
from pems_sync.models import Membership, Modification, Record
from pems_sync.models.record import RecordQuerySet
from pems_sync.states import State

_ORDER = Order("records", ("pfa_id",))
_SEARCHED = ("description", "equipment", "contract", "manufacturer", "model")
_EXACT = ("category", "class", "source", "dor")


class _RecordsQuery(Paged):
    search = Text(required=False, max_length=100, help_text="part of the id, description, equipment, contract or make")
    status = ChoiceField(STATUS_WORDS, required=False)


RecordsQuery: type[_RecordsQuery] = type(
    "RecordsQuery", (_RecordsQuery,), {name: Text(required=False, max_length=500) for name in _EXACT}
)
"""`class` is a word of Python's, so these are named as text."""


class RecordsView(Endpoint):
    @extend_schema(
        "list_records",
        parameters=[RecordsQuery],
        responses={200: shapes.page_of(shapes.RecordShape), **shapes.answers(400, 404)},
    )
    def get(self, request: Request, organization_id: str) -> Response:
        """Filters look at the stored values, not at drafts."""
        membership = membership_for(request.user, organization_id)
        query = checked_query(RecordsQuery, request.query_params)
        rows = _found(membership, query).select_related("organization")
        page = _ORDER.page(rows, limit=query["limit"], cursor=query.get("cursor"), scope=membership.organization_id)
        return Response({"items": present_records(page.rows, membership), "nextCursor": page.next_cursor})


class RecordView(Endpoint):
    @extend_schema("get_record", responses={200: shapes.RecordShape, **shapes.answers(404)})
    def get(self, request: Request, organization_id: str, pfa_id: str) -> Response:
        membership = membership_for(request.user, organization_id)
        checked_query(NoQuery, request.query_params)
        rows = Record.objects.for_organization(membership.organization).select_related("organization")
        record = rows.filter(pfa_id=pfa_id).first()
        if record is None:
            raise NotFoundError
        return Response(present_records([record], membership)[0])


def present_records(records: Sequence[Record], membership: Membership) -> list[dict[str, Any]]:
    """Three queries, however many records."""
    drafts = {
        row.record_id: row
        for row in Modification.objects.drafts()
        .filter(author=membership.user, record__in=list(records))
        .select_related("record")
    }
    latest = _latest(records, membership.user)
    money = sees_money(membership)
    return [
        record_shape(record, draft=drafts.get(record.pk), latest=latest.get(record.pk), money=money)
        for record in records
    ]


def _latest(records: Sequence[Record], user: AbstractBaseUser) -> dict[int, Modification]:
    rows = Record.objects.filter(pk__in=[record.pk for record in records]).annotate(shown=_shown(user))
    ids = dict(rows.exclude(shown=None).values_list("pk", "shown"))
    found = Modification.objects.in_bulk(list(ids.values()))
    return {record_id: found[pk] for record_id, pk in ids.items()}


def _shown(user: AbstractBaseUser) -> Coalesce:
    """The id of the modification whose status a record shows: its head, else the latest that this user may see."""
    of_record = Modification.objects.filter(record=OuterRef("pk"))
    latest = _visible(of_record, user).order_by("-saved_at").values("pk")[:1]
    return Coalesce(Subquery(of_record.filter(is_head=True).values("pk")[:1]), Subquery(latest))


def _visible(rows: QuerySet[Modification], user: AbstractBaseUser) -> QuerySet[Modification]:
    """Committed by anybody, or my open draft."""
    return rows.filter(Q(committed_at__isnull=False) | Q(state=State.DRAFT, author=user.pk))


def _found(membership: Membership, query: dict[str, Any]) -> RecordQuerySet:
    rows = Record.objects.for_organization(membership.organization).present()
    exact = {name: query[name] for name in _EXACT if name in query}
    if exact:
        rows = rows.filter(fields__contains=exact)
    if "search" in query:
        rows = rows.filter(_searched(query["search"]))
    return rows if "status" not in query else _with_status(rows, query["status"], membership.user)


def _searched(text: str) -> Q:
    found = Q(pfa_id__icontains=text)
    for name in _SEARCHED:
        found |= Q(**{f"fields__{name}__icontains": text})
    return found


def _with_status(rows: RecordQuerySet, word: str, user: AbstractBaseUser) -> RecordQuerySet:
    rows = rows.annotate(shown=_shown(user))
    having = Exists(Modification.objects.filter(pk=OuterRef("shown")).filter(having_status(word)))
    return rows.filter(Q(shown=None) | having) if word == "synced" else rows.filter(having)
