"""A whole job undone, after a look at what that would change."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

from pems_sync.admin.beside import BesideAdmin, drawn_plan, text_in
from pems_sync.errors import ApprovalNeededError, DomainError
from pems_sync.models import Job, Membership
from pems_sync.models.organization import Permission
from pems_sync.services import undoing


class UndoAdmin(BesideAdmin):
    beside = ("undo",)

    def ways(self, request: HttpRequest, row: Job) -> list[tuple[str, str]]:
        offered = row.kind in undoing.UNDOABLE and self.may(request, row, Permission.ROLLBACK)
        return [(self.address("undo", row), "Undo…")] if offered else []

    def undo_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET explains; the preview is by POST, for it reads PEMS."""
        job = self.row_or_404(request, object_id)
        membership = self.acting(request, job, Permission.ROLLBACK)
        if request.method != "POST":
            return self.drawn_page(request, "undo", job, "Undo", items=None)
        try:
            return self._undo(request, job, membership)
        except ApprovalNeededError as error:
            return self.waits(request, job, error)
        except DomainError as error:
            return self.drawn_page(request, "undo", job, "Undo", items=None, trouble=error.message)

    def _undo(self, request: HttpRequest, job: Any, membership: Membership) -> HttpResponse:
        reason, trouble = text_in(request, "reason", needed=True) if "apply" in request.POST else ("", "")
        if "apply" in request.POST and not trouble:
            done = undoing.undo(membership=membership, job=job, reason=reason)
            left = f" Left as they are: {len(done.rejected)}." if done.rejected else ""
            return self.done(request, job, f"Queued, to be sent at their turn: {done.queued}.{left}")
        found = undoing.preview(membership=membership, job=job)
        items = [{"pfa_id": item.record.pfa_id, "plan": drawn_plan(job, item.plan)} for item in found.items]
        return self.drawn_page(
            request, "undo", job, "Undo",
            items=items, restored=sum(item.goes_on for item in found.items), needs_approval=found.needs_approval,
            reason=reason, trouble=trouble,
        )  # fmt: skip
