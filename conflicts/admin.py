"""Conflicts to look at. They are resolved over the API."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.safestring import SafeString

from conflicts.models import Conflict
from pems_sync.admin import shown
from pems_sync.admin.desk import SearchedAdmin
from pems_sync.admin.filters import ChoicesFilter, DeskFilter, OrganizationFilter
from pems_sync.drift import ConflictKind


class ResolvedFilter(DeskFilter):
    title = parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [("unresolved", "unresolved"), ("resolved", "resolved")]

    def condition(self, value: str) -> Q:
        return Q(resolved_at__isnull=value == "unresolved")


class KindFilter(ChoicesFilter):
    title = parameter_name = path = "kind"
    words = [(kind.value, kind.value.replace("_", " ")) for kind in ConflictKind]


@admin.register(Conflict)
class ConflictAdmin(SearchedAdmin):
    record_path = "modification__record"
    modification_path = "modification"
    list_display = ("pfa_id", "organization", "kind", "fields_in_conflict", "status", "author", "opened", "resolver")
    list_filter = (ResolvedFilter, KindFilter, OrganizationFilter)
    list_select_related = ("organization", "modification__author", "resolved_by")
    ordering = ("-opened_at", "pk")
    fieldsets = (
        (None, {"fields": ("modification_link", "organization", "kind", "pems_version", "opened")}),
        ("Values", {"fields": ("values_table",)}),
        ("Resolution", {"fields": ("status", "resolution", "resolved", "resolver", "comment")}),
    )

    def heading(self, row: Conflict) -> str:
        return f"{row.pfa_id} · {row.kind}"

    @admin.display(description="fields")
    def fields_in_conflict(self, row: Conflict) -> str:
        return ", ".join(field["name"] for field in row.fields)

    @admin.display
    def status(self, row: Conflict) -> SafeString:
        return shown.tag("resolved" if row.resolved_at else "unresolved")

    @admin.display
    def author(self, row: Conflict) -> str:
        return row.modification.author.get_username()

    @admin.display(description="resolved by")
    def resolver(self, row: Conflict) -> str:
        return row.resolved_by.get_username() if row.resolved_by else "–"

    @admin.display
    def opened(self, row: Conflict) -> str:
        return shown.when(row.opened_at)

    @admin.display
    def resolved(self, row: Conflict) -> str:
        return shown.when(row.resolved_at)

    @admin.display(description="modification")
    def modification_link(self, row: Conflict) -> SafeString:
        return shown.detail_link("pems_sync_modification", row.modification_id, row.modification_id)

    @admin.display(description="fields")
    def values_table(self, row: Conflict) -> SafeString:
        sides = ("base", "ours", "theirs")
        columns = [{field["name"]: field[side] for field in row.fields} for side in sides]
        rows = shown.side_by_side(row, *columns)
        return shown.drawn("values", titles=["started from", "ours", f"PEMS, version {row.pems_version}"], rows=rows)
