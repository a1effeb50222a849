"""Where the way from PEMS to here stands, per organization: how far it has seen, what it skipped, what it held back."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString

from pems_sync.admin import shown
from pems_sync.admin.desk import DeskAdmin
from pems_sync.clock import database_now
from pems_sync.models import InboundState


@admin.register(InboundState)
class InboundStateAdmin(DeskAdmin):
    list_display = ("organization", "seen", "standing", "skipped", "braked", "adjusted", "unexplained")
    list_select_related = ("organization",)
    ordering = ("organization__code", "pk")
    fieldsets = (
        (None, {"fields": ("organization", "standing", "seen", "pull_due", "jobs")}),
        ("Rows that were skipped", {"fields": ("skipped", "broken")}),
        ("Sweep", {"fields": ("sweep_due", "last_sweep_keys", "brake")}),
        ("Compared with PEMS", {"fields": ("adjusted", "unexplained", "reconcile_due")}),
    )

    def heading(self, row: InboundState) -> str:
        return f"{row.organization.slug} · from PEMS"

    @admin.display(description="seen until (PEMS time)")
    def seen(self, row: InboundState) -> str:
        return shown.when(row.seen_until)

    @admin.display
    def standing(self, row: InboundState) -> str:
        if row.lease_until is not None and row.lease_until > database_now():
            return "a pull is under way"
        if row.run_until is not None:
            return f"a pull broke off, and goes on behind {'its first pages' if row.run_cursor else 'its beginning'}"
        return "waits for its next turn"

    @admin.display(description="next pull")
    def pull_due(self, row: InboundState) -> str:
        return shown.when(row.pull_due_at)

    @admin.display(description="next sweep")
    def sweep_due(self, row: InboundState) -> str:
        return shown.when(row.sweep_due_at)

    @admin.display(description="next reconcile")
    def reconcile_due(self, row: InboundState) -> str:
        return shown.when(row.reconcile_due_at)

    @admin.display(description="skipped rows")
    def skipped(self, row: InboundState) -> int:
        return len(row.broken_rows)

    @admin.display(description="with their reason")
    def broken(self, row: InboundState) -> SafeString:
        rows = [(str(each["pfaId"]), [shown.told(row, str(each["message"]))]) for each in row.broken_rows]
        return shown.drawn("values", titles=["reason"], rows=rows)

    @admin.display(description="brake")
    def braked(self, row: InboundState) -> str:
        return "pulled" if row.brake else "–"

    @admin.display(description="unexplained differences")
    def unexplained(self, row: InboundState) -> str:
        return "not compared yet" if row.differences is None else str(row.differences)

    @admin.display
    def jobs(self, row: InboundState) -> SafeString:
        return shown.list_link("pems_sync_job", {"organization": row.organization.slug}, "its jobs")
