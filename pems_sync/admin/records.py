"""Records as PEMS confirmed them last."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString

from pems_sync.admin import shown
from pems_sync.admin.desk import SearchedAdmin
from pems_sync.admin.filters import OrganizationFilter
from pems_sync.admin.history import HistoryAdmin
from pems_sync.models import Record

MOST_VERSIONS = 20


@admin.register(Record)
class RecordAdmin(HistoryAdmin, SearchedAdmin):
    modification_path = "modifications"
    list_display = ("pfa_id", "organization", "version", "description", "category", "source", "changed", "changed_by")
    list_filter = (OrganizationFilter,)
    list_select_related = ("organization",)
    ordering = ("organization", "pfa_id")
    fieldsets = (
        (None, {"fields": ("pfa_id", "organization", "version", "changed", "changed_by", "standing", "edits")}),
        ("Values", {"fields": ("values_table",)}),
        ("Versions seen", {"fields": ("versions_seen",)}),
    )

    @admin.display
    def description(self, row: Record) -> str:
        return row.fields.get("description") or "–"

    @admin.display
    def category(self, row: Record) -> str:
        return row.fields.get("category") or "–"

    @admin.display
    def source(self, row: Record) -> str:
        return row.fields.get("source") or "–"

    @admin.display
    def changed(self, row: Record) -> str:
        return shown.when(row.changed_at)

    @admin.display
    def standing(self, row: Record) -> str:
        if row.deleted_at:
            return f"PEMS no longer knows it, since {shown.when(row.deleted_at)}"
        return "confirmed, but not yet read back" if row.read_due_at else "as PEMS showed it"

    @admin.display
    def edits(self, row: Record) -> SafeString:
        return shown.list_link("pems_sync_modification", {"q": row.pfa_id}, "its modifications")

    @admin.display(description="fields")
    def values_table(self, row: Record) -> SafeString:
        rows = shown.side_by_side(row, row.fields)
        return shown.drawn("values", titles=[f"version {row.version}"], rows=rows)

    @admin.display(description="versions")
    def versions_seen(self, row: Record) -> SafeString:
        seen = row.versions.order_by("-version", "-pk")[:MOST_VERSIONS]
        rows = [(str(each.version), [shown.when(each.seen_at), each.changed_by or "–"]) for each in seen]
        return shown.drawn("values", titles=["seen (UTC)", "changed by"], rows=rows)
