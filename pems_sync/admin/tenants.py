"""Organizations of the user, and for superusers the connections they share."""

from __future__ import annotations

from django.contrib import admin

from pems_sync.admin import shown
from pems_sync.admin.desk import DeskAdmin
from pems_sync.models import Connection, Organization
from pems_sync.services import breaking


@admin.register(Organization)
class OrganizationAdmin(DeskAdmin):
    organization_path = "pk"
    list_display = ("slug", "code", "name", "state", "pulled")
    ordering = ("code", "pk")
    fieldsets = (
        (None, {"fields": ("slug", "code", "name")}),
        ("State", {"fields": ("state", "paused", "paused_reason", "restored", "pulled")}),
    )

    def heading(self, row: Organization) -> str:
        return row.name

    @admin.display
    def state(self, row: Organization) -> str:
        return shown.tag("paused" if row.paused_at else "restored" if row.restored_at else "running")

    @admin.display(description="paused at")
    def paused(self, row: Organization) -> str:
        return shown.when(row.paused_at)

    @admin.display(description="restored from a backup at; nothing is sent until a whole sweep has ended")
    def restored(self, row: Organization) -> str:
        return shown.when(row.restored_at)

    @admin.display(description="last complete pull")
    def pulled(self, row: Organization) -> str:
        return shown.when(row.pulled_at)


@admin.register(Connection)
class ConnectionAdmin(DeskAdmin):
    organization_path = "organizations"
    superusers_only = True
    list_display = ("slug", "dialect", "base_url", "tenant", "requests_per_second", "batch_size", "state")
    ordering = ("slug",)
    fieldsets = (
        (None, {"fields": ("slug", "dialect", "base_url", "tenant", "secret_name", "guarded")}),
        ("Pace", {"fields": ("requests_per_second", "batch_size", "batch_absent_until")}),
        ("State", {"fields": ("state", "paused", "paused_reason", "held", "held_reason")}),
        (
            "Breaker",
            {"fields": ("breaker_now", "breaker_reason", "next_canary", "breaker_override", "breaker_override_reason")},
        ),
    )

    @admin.display
    def state(self, row: Connection) -> str:
        return shown.tag("paused" if row.paused_at else "running")

    @admin.display(description="paused at")
    def paused(self, row: Connection) -> str:
        return shown.when(row.paused_at)

    @admin.display(description="state")
    def breaker_now(self, row: Connection) -> str:
        return shown.tag(breaking.state_of(row))

    @admin.display(description="next canary")
    def next_canary(self, row: Connection) -> str:
        return shown.when(row.breaker_probe_at)

    @admin.display(description="rests until")
    def held(self, row: Connection) -> str:
        return shown.when(row.held_until)
