"""What all lists and detail pages share: scoped, read-only, strict about what may be asked, cheap on large tables."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst

from pems_sync.admin.scope import scope_of
from pems_sync.models import Record
from pems_sync.models.organization import Permission

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _Paginator = Paginator[Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _Paginator = Paginator

MOST_COUNTED = 5_000
MOST_TERMS = 50


class CappedPaginator(_Paginator):
    """Counts no further than people page: a list of a million rows opens as fast as one of a hundred."""

    most_counted = MOST_COUNTED

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[:MOST_COUNTED].count()


class DeskAdmin(_ModelAdmin):
    """Rows of the user's own organizations, to read. `organization_path` leads from a row to its organization.

    Django's model permissions play no part: membership decides, as everywhere else.
    """

    organization_path = "organization"
    needs = Permission.READ
    superusers_only = False

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 50
    sortable_by = ()  # every list comes in the one order that an index serves
    actions_on_bottom = False
    show_facets = admin.ShowFacets.NEVER
    change_form_template = "admin/pems_sync/detail.html"

    class Media:
        css = {"all": ["pems_sync/admin.css"]}

    def heading(self, row: Any) -> str:
        """What the detail page is called."""
        return str(row)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        scope = scope_of(request)
        rows = scope.within(super().get_queryset(request), path=self.organization_path, permission=self.needs)
        return scope.with_money_noted(rows, path=self.organization_path)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if not _is_staff(request.user):
            return False
        scope = scope_of(request)
        return scope.sees_everything if self.superusers_only else scope.allows_somewhere(self.needs)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_sync_permission(self, request: HttpRequest) -> bool:
        """Whether the actions that need `sync` are offered at all. Each row is checked again."""
        return scope_of(request).acts_somewhere(Permission.SYNC)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only the filters on the page: a lookup of one's own could ask foreign rows yes-or-no questions."""
        return lookup in {getattr(each, "parameter_name", None) for each in self.list_filter}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        title = capfirst(str(self.opts.verbose_name_plural))
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return flatten_fieldsets(self.get_fieldsets(request, obj))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields or []

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        if obj is not None:
            context |= {"heading": self.heading(obj), "subtitle": None, "title": self.heading(obj)}
        return super().render_change_form(request, context, add, change, form_url, obj)


class SearchedAdmin(DeskAdmin):
    """Found by exact PFA ids, or by the id of a modification. Exact: an index answers, however large the table."""

    search_fields = ("pfa_id",)
    search_help_text = "PFA ids, separated by spaces, or the id of a modification"
    record_path = ""
    """Leads from a row to its record, where rows have no index of their own on the PFA id."""
    modification_path = "pk"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        terms = search_term.split()[:MOST_TERMS]
        ids = [found for found in map(as_uuid, terms) if found]
        if ids:
            return queryset.filter(**{f"{self.modification_path}__in": ids}), False
        if terms and self.record_path:
            records = scope_of(request).within(Record.objects.filter(pfa_id__in=terms))
            return queryset.filter(**{f"{self.record_path}__in": records}), False
        return queryset.filter(pfa_id__in=terms) if terms else queryset, False


def as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _is_staff(user: AbstractBaseUser | AnonymousUser) -> bool:
    return bool(user.is_active and getattr(user, "is_staff", False))
