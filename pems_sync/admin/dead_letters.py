"""Dead letters: what the machine gave up on, why, and the two ways out."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from pems_sync.admin import shown
from pems_sync.admin.decisions import DecidingAdmin, Decision
from pems_sync.admin.filters import (
    AuthorFilter,
    DeadReasonFilter,
    FingerprintFilter,
    OperationFilter,
    OrganizationFilter,
    SavedFilter,
)
from pems_sync.admin.modifications import ModificationDetail
from pems_sync.models import Modification
from pems_sync.states import State


class DeadLetter(Modification):
    """The same rows under another name, so that they have a list of their own."""

    class Meta:
        proxy = True
        verbose_name = "dead letter"


@admin.register(DeadLetter)
class DeadLetterAdmin(DecidingAdmin, ModificationDetail):
    list_display = ("pfa", "organization", "why_dead", "error_code", "short_message", "cause", "author", "queued")
    list_filter = (DeadReasonFilter, OrganizationFilter, OperationFilter, SavedFilter, AuthorFilter, FingerprintFilter)
    ordering = ("-queued_at", "pk")
    actions = ("retry_now", "discard")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(state=State.DEAD)

    @admin.display(description="what PEMS said")
    def short_message(self, row: DeadLetter) -> str:
        return Truncator(self.message(row)).chars(100)

    @admin.display
    def cause(self, row: DeadLetter) -> SafeString | str:
        if not row.fingerprint:
            return "–"
        return shown.list_link("pems_sync_deadletter", {"fingerprint": row.fingerprint}, row.fingerprint[:8])

    @admin.display(description="reason")
    def why_dead(self, row: DeadLetter) -> str:
        if row.read_back_for:
            return f"{row.dead_reason}, read back before {row.read_back_for}"
        return f"{row.dead_reason}, may still land" if row.may_still_land else str(row.dead_reason)

    @admin.display
    def queued(self, row: DeadLetter) -> str:
        return shown.when(row.queued_at)

    @admin.action(description="Retry", permissions=["sync"])
    def retry_now(self, request: HttpRequest, rows: QuerySet[Modification]) -> None:
        self.decide(request, rows, Decision.RETRY)

    @admin.action(description="Discard…", permissions=["sync"])
    def discard(self, request: HttpRequest, rows: QuerySet[Modification]) -> Any:
        return self.ask_then_decide(request, rows, Decision.DISCARD)
