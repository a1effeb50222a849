"""Modifications: the list support works from, and one edit from its first value to its last attempt."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from pems_sync.admin import shown
from pems_sync.admin.decisions import DecidingAdmin, Decision
from pems_sync.admin.desk import SearchedAdmin
from pems_sync.admin.filters import (
    AuthorFilter,
    JobFilter,
    OperationFilter,
    OrganizationFilter,
    SavedFilter,
    StatusFilter,
)
from pems_sync.admin.scope import scope_of
from pems_sync.api.explaining import explain
from pems_sync.api.telling import timeline_of
from pems_sync.api.wire import status_of
from pems_sync.clock import database_now
from pems_sync.models import Attempt, JournalEntry, Modification

MOST_ENTRIES = 200


class ModificationDetail(SearchedAdmin):
    """How one modification is shown, alive or dead. Amounts are hidden without `view_financials`."""

    list_select_related = ("organization", "author")
    record_path = "record"
    fieldsets = (
        (None, {"fields": ("status", "record_link", "organization", "operation", "author_name", "reason", "job_link")}),
        ("Values", {"fields": ("values_table", "versions")}),
        ("Where it stands", {"fields": ("standing", "trouble", "effort", "follow_up")}),
        ("Times", {"fields": ("times",)}),
        ("Attempts", {"fields": ("attempts_table",)}),
        ("Timeline", {"fields": ("timeline",)}),
    )

    def heading(self, row: Modification) -> str:
        return f"{row.pfa_id} · {row.pk}"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Modification]:
        rows: QuerySet[Modification] = super().get_queryset(request)
        return rows.filter(scope_of(request).without_drafts_of_others())

    @admin.display(description="PFA id")
    def pfa(self, row: Modification) -> str:
        return row.pfa_id

    @admin.display
    def status(self, row: Modification) -> SafeString:
        return shown.tag(status_of(row))

    @admin.display(description="fields")
    def changed(self, row: Modification) -> str:
        return shown.names_of(row.changes)

    @admin.display(description="reason")
    def why(self, row: Modification) -> str:
        return Truncator(row.reason).chars(60)

    @admin.display
    def saved(self, row: Modification) -> str:
        return shown.when(row.saved_at)

    @admin.display(description="record")
    def record_link(self, row: Modification) -> SafeString:
        return shown.detail_link("pems_sync_record", row.record_id, row.pfa_id)

    @admin.display(description="author")
    def author_name(self, row: Modification) -> str:
        return row.author.get_username()

    @admin.display(description="job")
    def job_link(self, row: Modification) -> SafeString | str:
        return shown.detail_link("pems_sync_job", row.job_id, row.job_id) if row.job_id else "–"

    @admin.display(description="changes")
    def values_table(self, row: Modification) -> SafeString:
        columns: list[dict[str, Any]] = [row.base, row.changes]
        titles = ["started from", "wanted"]
        if row.adjusted:
            columns, titles = [*columns, row.adjusted], [*titles, "adjusted by PEMS"]
        return shown.drawn("values", titles=titles, rows=shown.side_by_side(row, *columns))

    @admin.display
    def versions(self, row: Modification) -> str:
        confirmed = f", confirmed as {row.confirmed_version}" if row.confirmed_version is not None else ""
        return f"started from {row.base_version}, next write conditional on {row.expected_version}{confirmed}"

    @admin.display(description="explanation")
    def standing(self, row: Modification) -> SafeString:
        why = explain(row, now=database_now(), money=shown.sees_money(row))
        next_step = f"{why.next} ({shown.when(why.next_at)})" if why.next_at else why.next
        text = shown.told(row, why.text, about=row.error_field)
        rows = [("now", [text]), ("next", [next_step]), ("who must act", [why.who_must_act])]
        return shown.drawn("values", rows=rows)

    @admin.display(description="last error")
    def trouble(self, row: Modification) -> str:
        parts = (row.dead_reason or "", row.error_code, row.error_field, self.message(row))
        landing = "it may still reach PEMS" if row.may_still_land or row.exposed else ""
        return " · ".join(part for part in (*parts, landing) if part) or "–"

    @admin.display(description="what PEMS said")
    def message(self, row: Modification) -> str:
        return shown.told(row, row.error_message, about=row.error_field)

    @admin.display
    def effort(self, row: Modification) -> str:
        return f"{row.attempts} tries burnt, {row.crashes} workers crashed"

    @admin.display(description="follow-up")
    def follow_up(self, row: Modification) -> str:
        merged = "PEMS had moved in other fields; both changes stand" if row.auto_merged else ""
        folded = f"carried on by {row.superseded_by_id}" if row.superseded_by_id else ""
        return merged or folded or "–"

    @admin.display
    def times(self, row: Modification) -> SafeString:
        names = ("created_at", "saved_at", "committed_at", "queued_at", "started_at", "finished_at")
        rows = [(name.removesuffix("_at"), [shown.when(getattr(row, name))]) for name in names]
        return shown.drawn("values", titles=["UTC"], rows=rows)

    @admin.display(description="ledger")
    def attempts_table(self, row: Modification) -> SafeString:
        attempts = Attempt.objects.filter(modification=row).order_by("epoch").prefetch_related("outcomes")
        return shown.attempts(row, attempts)

    @admin.display(description="journal")
    def timeline(self, row: Modification) -> SafeString:
        entries = JournalEntry.objects.filter(modification_id=row.pk).order_by("position")[:MOST_ENTRIES]
        told = timeline_of(list(entries), [], money=shown.sees_money(row))
        lines = [(shown.when(entry.recorded_at), line) for entry, line in zip(entries, told, strict=True)]
        return shown.drawn("timeline", lines=lines)


@admin.register(Modification)
class ModificationAdmin(DecidingAdmin, ModificationDetail):
    list_display = ("pfa", "status", "organization", "changed", "author", "why", "attempts", "saved")
    list_filter = (StatusFilter, OrganizationFilter, OperationFilter, SavedFilter, AuthorFilter, JobFilter)
    ordering = ("-saved_at", "pk")
    actions = ("retry_now", "withdraw")

    @admin.action(description="Retry now", permissions=["sync"])
    def retry_now(self, request: HttpRequest, rows: QuerySet[Modification]) -> None:
        self.decide(request, rows, Decision.RETRY)

    @admin.action(description="Withdraw…", permissions=["sync"])
    def withdraw(self, request: HttpRequest, rows: QuerySet[Modification]) -> Any:
        return self.ask_then_decide(request, rows, Decision.WITHDRAW)
