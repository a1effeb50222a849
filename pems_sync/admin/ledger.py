"""What is only ever added to: attempts with their outcomes, jobs, the journal."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from pems_sync.admin import shown
from pems_sync.admin.desk import SearchedAdmin
from pems_sync.admin.filters import (
    AuthorFilter,
    JobKindFilter,
    OrganizationFilter,
    OrganizationOfAttemptFilter,
    OutcomeFilter,
    RecordedFilter,
    StartedFilter,
)
from pems_sync.admin.undoing import UndoAdmin
from pems_sync.models import Attempt, Job, JournalEntry
from pems_sync.models.organization import Permission


@admin.register(Attempt)
class AttemptAdmin(SearchedAdmin):
    organization_path = "modification__organization"
    record_path = "modification__record"
    modification_path = "modification"
    list_display = ("started", "pfa", "organization", "epoch", "version_sent", "batch_of", "outcomes", "worker")
    list_filter = (OutcomeFilter, OrganizationOfAttemptFilter, StartedFilter)
    list_select_related = ("modification__organization",)
    ordering = ("-pk",)
    fieldsets = (
        (None, {"fields": ("modification_link", "organization", "delivery_id", "idempotency_key")}),
        ("What was sent, and what came of it", {"fields": ("story",)}),
    )

    def heading(self, row: Attempt) -> str:
        return f"{row.modification.pfa_id} · attempt {row.epoch}"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        rows: QuerySet[Attempt] = super().get_queryset(request)
        return rows.prefetch_related("outcomes")

    @admin.display
    def started(self, row: Attempt) -> str:
        return shown.when(row.started_at)

    @admin.display(description="PFA id")
    def pfa(self, row: Attempt) -> str:
        return row.modification.pfa_id

    @admin.display
    def organization(self, row: Attempt) -> str:
        return row.modification.organization.slug

    @admin.display
    def outcomes(self, row: Attempt) -> str:
        found = sorted(row.outcomes.all(), key=lambda each: each.at)
        return " → ".join(f"{each.get_kind_display()} {each.status or ''}".strip() for each in found) or "none yet"

    @admin.display(description="modification")
    def modification_link(self, row: Attempt) -> SafeString:
        return shown.detail_link("pems_sync_modification", row.modification_id, row.modification_id)

    @admin.display(description="attempt")
    def story(self, row: Attempt) -> SafeString:
        return shown.attempts(row, [row])


@admin.register(Job)
class JobAdmin(UndoAdmin):
    list_display = (
        "started",
        "organization",
        "kind",
        "author",
        "why",
        "total",
        "seen",
        "changed",
        "skipped",
        "finished",
    )
    list_filter = (JobKindFilter, OrganizationFilter, StartedFilter, AuthorFilter)
    list_select_related = ("organization", "author")
    ordering = ("-started_at", "pk")
    fieldsets = (
        (None, {"fields": ("organization", "kind", "author_name", "reason", "started", "finished")}),
        ("Write-sync", {"fields": ("total", "progress", "modifications_link", "undoes_link")}),
        ("Pull", {"fields": ("seen", "changed", "skipped", "refused")}),
    )

    def heading(self, row: Job) -> str:
        return f"{row.get_kind_display()} of {row.organization.slug}, {shown.when(row.started_at)}"

    @admin.display
    def started(self, row: Job) -> str:
        return shown.when(row.started_at)

    @admin.display
    def finished(self, row: Job) -> str:
        return shown.when(row.finished_at)

    @admin.display(description="reason")
    def why(self, row: Job) -> str:
        return Truncator(row.reason).chars(60)

    @admin.display(description="author")
    def author_name(self, row: Job) -> str:
        return row.author.get_username() if row.author else "–"

    @admin.display
    def progress(self, row: Job) -> str:
        counts = row.modifications.order_by().values_list("state").annotate(Count("pk"))
        return ", ".join(f"{count} {state}" for state, count in sorted(counts)) or "–"

    @admin.display(description="modifications")
    def modifications_link(self, row: Job) -> SafeString:
        return shown.list_link("pems_sync_modification", {"job": str(row.pk)}, "list them")

    @admin.display(description="undoes")
    def undoes_link(self, row: Job) -> SafeString | str:
        return shown.detail_link("pems_sync_job", row.undoes_id, row.undoes_id) if row.undoes_id else "–"

    @admin.display(description="refused rows")
    def refused(self, row: Job) -> SafeString | str:
        return shown.document(row, row.errors)


JournalEntry._meta.verbose_name_plural = "journal entries"  # said by nobody but the admin


@admin.register(JournalEntry)
class JournalAdmin(SearchedAdmin):
    """For those who may read the audit over the API, too. Sign-ins belong to no organization: superusers see them."""

    needs = Permission.MANAGE
    modification_path = "modification_id"
    list_display = ("recorded", "organization", "position", "what", "pfa_id", "actor", "on_behalf_of", "why")
    list_filter = (OrganizationFilter, RecordedFilter)
    list_select_related = ("organization",)
    ordering = ("-pk",)
    fieldsets = (
        (None, {"fields": ("organization", "position", "seq", "recorded", "what", "wire_type", "pfa_id")}),
        ("Who", {"fields": ("actor", "on_behalf_of", "full_reason", "request_id", "address")}),
        ("What", {"fields": ("modification_link", "before_values", "after_values", "told")}),
        ("Chain", {"fields": ("previous_hash", "hash")}),
    )

    def heading(self, row: JournalEntry) -> str:
        return (
            f"{row.kind.replace('_', ' ')} · {row.organization.slug if row.organization else 'sign-in'} {row.position}"
        )

    @admin.display
    def recorded(self, row: JournalEntry) -> str:
        return shown.when(row.recorded_at)

    @admin.display
    def what(self, row: JournalEntry) -> str:
        return row.kind.replace("_", " ")

    @admin.display(description="reason")
    def why(self, row: JournalEntry) -> str:
        return Truncator(self.full_reason(row)).chars(60)

    @admin.display(description="reason")
    def full_reason(self, row: JournalEntry) -> str:
        return shown.told(row, row.reason)

    @admin.display(description="modification")
    def modification_link(self, row: JournalEntry) -> SafeString | str:
        key = row.modification_id
        return shown.detail_link("pems_sync_modification", key, key) if key else "–"

    @admin.display(description="before")
    def before_values(self, row: JournalEntry) -> SafeString | str:
        return shown.document(row, row.before)

    @admin.display(description="after")
    def after_values(self, row: JournalEntry) -> SafeString | str:
        return shown.document(row, row.after)

    @admin.display(description="told to sockets")
    def told(self, row: JournalEntry) -> SafeString | str:
        return shown.document(row, row.details)
