"""After a decision: on to the next open conflict of the list the person came from."""

from __future__ import annotations

from copy import copy
from typing import Any

from django.contrib.admin import ModelAdmin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import SuspiciousOperation
from django.db.models import Q, QuerySet
from django.http import HttpRequest, QueryDict
from django.urls import reverse
from django.utils.http import urlencode

from conflicts.models import Conflict

PRESERVED = "_changelist_filters"
"""Django's own parameter for the filters of the list that led to a page."""


def listed(desk: ModelAdmin[Any], request: HttpRequest, filters: str) -> QuerySet[Any] | None:
    """The rows of the list with these filters, in its order. None where they cannot be read."""
    asked = copy(request)
    asked.GET = QueryDict(filters)
    try:
        rows: QuerySet[Any] = desk.get_changelist_instance(asked).queryset
    except (IncorrectLookupParameters, SuspiciousOperation, ValueError):
        return None
    return rows


def address_after(desk: ModelAdmin[Any], request: HttpRequest, conflict: Conflict) -> str:
    """Of the next older one, or of the newest when this was the oldest, or of the list when none is left."""
    filters = request.GET.get(PRESERVED, "")
    rows = listed(desk, request, filters)
    if rows is None:
        filters, rows = "", desk.get_queryset(request)
    still_open = rows.filter(resolved_at=None).exclude(pk=conflict.pk)
    older = Q(opened_at__lt=conflict.opened_at) | Q(opened_at=conflict.opened_at, pk__gt=conflict.pk)
    return address_of(still_open.filter(older).first() or still_open.first(), filters)


def address_of(conflict: Conflict | None, filters: str) -> str:
    """Its page with the filters kept, or the list itself."""
    if conflict is None:
        return reverse("admin:conflicts_conflict_changelist") + (f"?{filters}" if filters else "")
    kept = f"?{urlencode({PRESERVED: filters})}" if filters else ""
    return reverse("admin:conflicts_conflict_change", args=[conflict.pk]) + kept
