"""The inbox: open conflicts, newest first, with counts, and the same conflicts in groups that are alike."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest, PermissionDenied
from django.core.paginator import Page
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator

from conflicts import bulk
from conflicts.admin import alike, resolver
from conflicts.admin.comparing import in_order
from conflicts.admin.counting import groups, overview
from conflicts.admin.deciding import RESOLUTIONS
from conflicts.admin.filters import (
    AgeFilter,
    ConflictAuthorFilter,
    FieldFilter,
    KindFilter,
    PatternFilter,
    StatusFilter,
)
from conflicts.admin.following import listed
from conflicts.admin.wording import kind_word, worded
from conflicts.models import Conflict
from pems_sync.admin import shown
from pems_sync.admin.desk import CappedPaginator, SearchedAdmin, as_uuid
from pems_sync.admin.filters import OrganizationFilter
from pems_sync.admin.scope import scope_of
from pems_sync.models.organization import Permission

MOST_VALUES = 3
LONGEST_VALUE = 40


class IdsFirstPaginator(CappedPaginator):
    """Which rows are on a page is read from the index alone; only those are then joined with what they are about."""

    def page(self, number: Any) -> Page[Any]:
        page = super().page(number)
        rows: QuerySet[Any] = page.object_list  # type: ignore[assignment]
        everything: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        page.object_list = everything.filter(pk__in=list(rows.values_list("pk", flat=True)))
        return page


@admin.register(Conflict)
class ConflictAdmin(SearchedAdmin):
    record_path = "modification__record"
    modification_path = "modification"
    paginator = IdsFirstPaginator
    change_list_template = "admin/conflicts/inbox.html"
    list_display = ("pfa_id", "organization", "kind_shown", "values", "author", "opened", "status")
    list_filter = (
        StatusFilter, OrganizationFilter, KindFilter, AgeFilter, ConflictAuthorFilter, FieldFilter, PatternFilter,
    )  # fmt: skip
    list_select_related = ("organization", "modification__author", "resolved_by")
    ordering = ("-opened_at", "pk")
    actions = ("settle_alike",)

    class Media:
        css = {"all": ["conflicts/pages.css"]}

    def get_urls(self) -> list[URLPattern]:
        def own(route: str, view: Any, name: str) -> URLPattern:
            found: URLPattern = path(route, self.admin_site.admin_view(view), name=f"conflicts_conflict_{name}")
            return found

        return [
            own("groups/", self.groups_view, "groups"),
            own("alike/", self.alike_view, "alike"),
            own("<uuid:conflict_id>/preview/", self.preview_view, "preview"),
            own("<uuid:conflict_id>/undo/", self.undo_view, "undo"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        more = {"overview": overview(scope_of(request)), "query": request.GET.urlencode()}
        return super().changelist_view(request, {**more, **(extra_context or {})})

    def groups_view(self, request: HttpRequest) -> HttpResponse:
        """The rows of the list with the same filters, counted by pattern."""
        self._demand_view(request)
        query = request.GET.urlencode()
        rows = listed(self, request, query)
        if rows is None:
            raise BadRequest("There is no such filter.")
        context = self.admin_site.each_context(request) | {
            "title": "Conflicts that are alike", "opts": self.opts, "media": self.media, "query": query,
            "groups": groups(rows),
            "decides_in": {key for key, each in scope_of(request).memberships.items() if each.allows(Permission.RESOLVE)},
        }  # fmt: skip
        return TemplateResponse(request, "admin/conflicts/groups.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        self._demand_view(request)
        conflict = resolver.found(self, request, as_uuid(object_id))
        if conflict is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined, no-any-return]
        return resolver.page(self, request, conflict)

    def preview_view(self, request: HttpRequest, conflict_id: UUID) -> HttpResponse:
        return resolver.fragment(self, request, conflict_id)

    def undo_view(self, request: HttpRequest, conflict_id: UUID) -> HttpResponse:
        return resolver.take_back(self, request, conflict_id)

    def alike_view(self, request: HttpRequest) -> HttpResponse:
        self._demand_view(request)
        return alike.page(self, request)

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        """Whether deciding is offered at all. Each conflict is checked again."""
        return scope_of(request).acts_somewhere(Permission.RESOLVE)

    @admin.action(description="Settle alike…", permissions=["resolve"])
    def settle_alike(self, request: HttpRequest, rows: QuerySet[Conflict]) -> HttpResponse | None:
        chosen = alike.open_of(rows)
        if len(chosen) != 1 or len(next(iter(chosen.values()))) > bulk.MOST_AT_ONCE:
            sentence = f"Select open conflicts of one organization, at most {bulk.MOST_AT_ONCE}. Nothing was done."
            self.message_user(request, sentence, messages.ERROR)
            return None
        ((slug, ids),) = chosen.items()
        return alike.drawn(self, request, alike.asked_for_rows(slug, ids))

    @admin.display(
        description=mark_safe('<input type="checkbox" id="action-toggle" aria-label="Select all of this page">')
    )
    def action_checkbox(self, row: Conflict) -> SafeString:
        """Django's own, without a form widget for each row: a fifth of the time of the page."""
        box = '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="Select {} for an action">'
        return format_html(box, ACTION_CHECKBOX_NAME, row.pk, row.pfa_id)

    def _demand_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    @admin.display(description="kind")
    def kind_shown(self, row: Conflict) -> str:
        return kind_word(row.kind)

    @admin.display(description="ours, and PEMS's")
    def values(self, row: Conflict) -> SafeString:
        fields = in_order(row.fields)
        lines = [(each["name"], self._brief(row, each, "ours"), self._brief(row, each, "theirs")) for each in fields]
        more = format_html(" and {} more", len(lines) - MOST_VALUES) if len(lines) > MOST_VALUES else ""
        told = format_html_join("", "<li><b>{}</b> {} <span class='quiet'>/</span> {}</li>", lines[:MOST_VALUES])
        return format_html("<ul class='sides'>{}</ul>{}", told, more)

    def _brief(self, row: Conflict, each: dict[str, Any], side: str) -> str:
        return Truncator(worded(each["name"], each[side], money=shown.sees_money(row))).chars(LONGEST_VALUE)

    @admin.display
    def status(self, row: Conflict) -> SafeString:
        if row.resolved_at is None:
            return shown.tag("unresolved")
        who = row.resolved_by.get_username() if row.resolved_by else "withdrawal"
        return format_html("{} {}", shown.tag("resolved"), f"{RESOLUTIONS.get(row.resolution, row.resolution)}, {who}")

    @admin.display
    def author(self, row: Conflict) -> str:
        return row.modification.author.get_username()

    @admin.display
    def opened(self, row: Conflict) -> str:
        return shown.when(row.opened_at)
