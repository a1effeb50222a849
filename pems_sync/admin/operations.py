"""Operations on one page: each connection with its breaker and pace, each organization with its queue. As many queries for
a hundred of them as for one; the paces come from Redis."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, Min, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from pems_sync.access import managed_connection, membership_for
from pems_sync.admin import shown
from pems_sync.admin.beside import LONGEST_REASON, text_in
from pems_sync.admin.scope import Scope, scope_of
from pems_sync.api.wire import having_status
from pems_sync.client.connect import pace_for
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.clock import database_now
from pems_sync.errors import DomainError
from pems_sync.maintenance import timetable_of
from pems_sync.models import Connection, Modification, Organization
from pems_sync.models.organization import Permission
from pems_sync.services import breaking
from pems_sync.states import FINAL, State

WORDS = ("queued", "retrying", "syncing", "verifying", "conflict", "failed")
_MEDIA = forms.Media(css={"all": ["pems_sync/admin.css"]})


def operations(request: HttpRequest) -> HttpResponse:
    """Members see their organizations, and of a connection they share what concerns them; superusers see everything."""
    if request.method == "POST":
        return _order(request)
    scope, now = scope_of(request), database_now()
    context = admin.site.each_context(request) | {
        "title": "Operations", "media": _MEDIA, "words": WORDS, "now": shown.when(now), "orders": list(breaking.ORDERS),
        "connections": _connections(scope, now), "organizations": _organizations(scope),
        "sees_everything": scope.sees_everything, "longest_reason": LONGEST_REASON,
    }  # fmt: skip
    return TemplateResponse(request, "admin/pems_sync/operations.html", context)


def _order(request: HttpRequest) -> HttpResponse:
    try:
        membership = membership_for(request.user, request.POST.get("organization", ""), Permission.MANAGE)
        connection = managed_connection(membership)
        word = request.POST.get("order", "")
        reason, trouble = text_in(request, "reason", needed=word != "auto")
        if word not in breaking.ORDERS or trouble:
            messages.error(request, trouble or "Choose what the breaker is to do.")
        else:
            order, actor = breaking.ORDERS[word], membership.user.get_username()
            breaking.order(connection, order=order, reason=reason, actor=actor)
            messages.success(request, f"The order is given: {word}.")
    except DomainError as error:
        messages.error(request, f"{error.message} Nothing was done.")
    return HttpResponseRedirect(reverse("operations"))


def _connections(scope: Scope, now: datetime) -> list[dict[str, Any]]:
    rows = Connection.objects.order_by("slug").prefetch_related("windows", "organizations")
    if not scope.sees_everything:
        rows = rows.filter(organizations__in=scope.organizations()).distinct()
    return [_connection(scope, row, now) for row in rows]


def _connection(scope: Scope, row: Connection, now: datetime) -> dict[str, Any]:
    sharing = list(row.organizations.all())
    mine = [each for each in sharing if scope.sees_everything or each.pk in scope.memberships]
    return {
        "row": row,
        "name": row.slug if scope.sees_everything else "PEMS of " + ", ".join(sorted(each.code for each in mine)),
        "address": row.base_url if scope.sees_everything else "",
        "pace": _pace(row),
        "limit": f"{row.requests_per_second:g}",
        "breaker": _breaker(row),
        "since": shown.when(row.breaker_since),
        "reason": row.breaker_override_reason or row.breaker_reason,
        "next_try": shown.when(row.breaker_probe_at),
        "held": shown.when(row.held_until) if row.held_until and row.held_until > now else "–",
        "paused": shown.when(row.paused_at),
        "window": _window(row, now),
        "orders_by": _orders_by(scope, sharing),
    }


def _breaker(row: Connection) -> SafeString:
    state = breaking.state_of(row)
    return format_html('<span class="status status-breaker-{}">{}</span>', state, str(state).replace("_", " "))


def _pace(row: Connection) -> str:
    try:
        return f"{pace_for(row).rate():g}"
    except PaceUnavailableError:
        return "–"


def _window(row: Connection, now: datetime) -> str:
    ends = [(end, each.name) for each in row.windows.all() if (end := timetable_of(each).open_until(now))]
    return f"{max(ends)[1]}, until {shown.when(max(ends)[0])}" if ends else "–"


def _orders_by(scope: Scope, sharing: list[Organization]) -> str:
    """The organization through which this person gives the connection orders: they manage all that share it. Else empty."""
    held = [scope.memberships.get(each.pk) for each in sharing]
    manages = bool(held) and all(each is not None and each.allows(Permission.MANAGE) for each in held)
    return sharing[0].slug if manages else ""


def _organizations(scope: Scope) -> list[dict[str, Any]]:
    rows = scope.organizations().select_related("conservation")
    queues = _queues(rows)
    return [_organization(row, queues.get(row.pk, {})) for row in rows]


def _queues(organizations: QuerySet[Organization]) -> dict[int, dict[str, Any]]:
    """Open work of each, counted by its partial index."""
    open_rows = Modification.objects.filter(organization__in=organizations).exclude(state__in=sorted(FINAL))
    counts = {word: Count("pk", filter=having_status(word)) for word in WORDS}
    oldest = Min("queued_at", filter=having_status("queued") | having_status("retrying"))
    found = open_rows.exclude(state=State.DRAFT).order_by().values("organization").annotate(**counts, oldest=oldest)
    return {row["organization"]: dict(row) for row in found}


def _organization(row: Organization, queue: Mapping[str, Any]) -> dict[str, Any]:
    conservation = getattr(row, "conservation", None)
    return {
        "row": row,
        "depths": [queue.get(word, 0) for word in WORDS],
        "oldest": shown.when(queue.get("oldest")),
        "paused": shown.when(row.paused_at),
        "restored": shown.when(row.restored_at),
        "difference": "–" if conservation is None else conservation.difference,
        "off": conservation is not None and conservation.difference != 0,
        "checked": shown.when(conservation.checked_at if conservation else None),
    }
