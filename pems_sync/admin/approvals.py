"""What waits for a second person, and what became of it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from pems_sync.admin import shown
from pems_sync.admin.beside import BesideAdmin, text_in
from pems_sync.admin.filters import ChoicesFilter, OrganizationFilter
from pems_sync.errors import DomainError
from pems_sync.models import Approval, Membership
from pems_sync.models.approval import ApprovalKind
from pems_sync.services.approving import decide, permission_for

MOST_SHOWN = 100
"""Records of a job whose undo waits; the API shows them all."""


class StandingFilter(ChoicesFilter):
    title = parameter_name = "standing"
    words = (("open", "open"), ("decided", "decided"))

    def condition(self, value: str) -> Q:
        return Q(decided_at__isnull=value == "open")


@admin.register(Approval)
class ApprovalAdmin(BesideAdmin):
    beside = ("decide",)
    list_display = ("summary", "organization", "kind", "standing", "asked", "asked_by", "decided_by", "comment")
    list_filter = (StandingFilter, OrganizationFilter)
    list_select_related = ("organization", "asked_by", "decided_by")
    ordering = ("-asked_at", "pk")
    fieldsets = (
        (None, {"fields": ("summary", "organization", "kind", "subject", "standing", "asked", "asked_by")}),
        ("Decision", {"fields": ("decided", "decided_by", "comment")}),
        ("What is carried out", {"fields": ("wanted",)}),
    )

    def heading(self, row: Approval) -> str:
        return row.summary

    @admin.display
    def standing(self, row: Approval) -> str:
        return shown.tag("open" if row.decided_at is None else "approved" if row.approved else "refused")

    @admin.display
    def asked(self, row: Approval) -> str:
        return shown.when(row.asked_at)

    @admin.display
    def decided(self, row: Approval) -> str:
        return shown.when(row.decided_at)

    @admin.display(description="what")
    def wanted(self, row: Approval) -> SafeString | str:
        return _wanted(row)

    def ways(self, request: HttpRequest, row: Approval) -> list[tuple[str, str]]:
        offered = row.decided_at is None and self.may(request, row, permission_for(row.kind))
        return [(self.address("decide", row), "Decide…")] if offered else []

    def decide_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row_or_404(request, object_id)
        membership = self.acting(request, row, permission_for(row.kind))
        trouble = ""
        if request.method == "POST":
            comment, trouble = text_in(request, "comment", needed=False)
            if not trouble and {"approve", "reject"} & request.POST.keys():
                try:
                    return self._decide(request, row, membership, comment)
                except DomainError as error:
                    trouble = error.message
        return self.drawn_page(
            request, "approval", row, "Decide",
            trouble=trouble, asked=shown.when(row.asked_at), reason=row.payload.get("reason", ""), payload=_wanted(row),
        )  # fmt: skip

    def _decide(self, request: HttpRequest, row: Any, membership: Membership, comment: str) -> HttpResponse:
        approve = "approve" in request.POST
        decide(membership=membership, approval=row, approve=approve, comment=comment)
        sentence = "Agreed, and carried out." if approve else "Refused; nothing was carried out."
        return self.done(request, row, sentence, messages.SUCCESS)


def _wanted(row: Any) -> SafeString | str:
    """From and to, of one record or of each record of a job; a resolution as it was sent."""
    before, changes = row.payload.get("before"), row.payload.get("changes")
    if not isinstance(before, dict) or not isinstance(changes, dict):
        return shown.document(row, row.payload)
    if row.kind == ApprovalKind.ROLLBACK:
        return shown.drawn("values", titles=["from", "to"], rows=shown.side_by_side(row, before, changes))
    names = sorted(changes)
    records = [(name, shown.side_by_side(row, before[name], changes[name])) for name in names[:MOST_SHOWN]]
    return shown.drawn("wanted", titles=["from", "to"], records=records, more=len(names) - len(records))
