"""A record's history, and the way back to one of its versions."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect

from pems_sync.admin import shown
from pems_sync.admin.beside import BesideAdmin, drawn_plan, text_in
from pems_sync.api.paging import InvalidCursorError, Order
from pems_sync.errors import ApprovalNeededError, DomainError
from pems_sync.history import NEWEST_FIRST, Seen, tell, versions_of
from pems_sync.models import Membership, Record
from pems_sync.models.organization import Permission
from pems_sync.services import rollback

VERSIONS_PER_PAGE = 25
_ORDER = Order("admin-history", NEWEST_FIRST)


class HistoryAdmin(BesideAdmin):
    """In place of Django's own history, which knows only what was changed through the admin: nothing is."""

    beside = ("rollback",)

    def ways(self, request: HttpRequest, row: Record) -> list[tuple[str, str]]:
        return [(self.address("history", row), "History")]

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        record = self.row_or_404(request, object_id)
        try:
            cursor = request.GET.get("cursor")
            page = _ORDER.page(versions_of(record), limit=VERSIONS_PER_PAGE, cursor=cursor, scope=record.pk)
        except InvalidCursorError as error:
            raise Http404 from error
        return self.drawn_page(
            request,
            "history",
            record,
            "History",
            lines=[_line(record, each) for each in tell(record, page.rows)],
            next_cursor=page.next_cursor,
            may_roll_back=self.may(request, record, Permission.ROLLBACK) and record.deleted_at is None,
        )

    def rollback_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """By POST only, for the preview reads PEMS; what is typed wrong shows the preview again."""
        record = self.row_or_404(request, object_id)
        if request.method != "POST":
            return HttpResponseRedirect(self.address("history", record))
        membership = self.acting(request, record, Permission.ROLLBACK)
        version = _number(request.POST.get("version", ""))
        try:
            return self._roll_back(request, record, membership, version)
        except ApprovalNeededError as error:
            return self.waits(request, record, error)
        except DomainError as error:
            return self.drawn_page(request, "rollback", record, "Rollback", trouble=error.message)

    def _roll_back(self, request: HttpRequest, record: Any, membership: Membership, version: int) -> HttpResponse:
        found = rollback.preview(membership=membership, pfa_id=record.pfa_id, version=version)
        reason, trouble = text_in(request, "reason", needed=True) if "apply" in request.POST else ("", "")
        if "apply" in request.POST and request.POST.get("seen") != str(found.record.version):
            trouble = "PEMS changed the record since you looked. This is what would change now."
        if "apply" in request.POST and not trouble:
            rollback.roll_back(membership=membership, pfa_id=record.pfa_id, version=version, reason=reason)
            return self.done(request, record, f"Back to version {version}: queued, to be sent at its turn.")
        return self.drawn_page(
            request, "rollback", record, "Rollback",
            found=found, version=version, reason=reason, trouble=trouble, plan=drawn_plan(record, found.plan),
        )  # fmt: skip


def _number(text: str) -> int:
    """What is no version was never seen."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def _line(record: Any, seen: Seen) -> dict[str, Any]:
    edit = seen.edit
    return {
        "version": seen.version.version,
        "past": seen.version.version != record.version,
        "changed": shown.when(seen.version.changed_at),
        "seen": shown.when(seen.version.seen_at),
        "source": shown.tag(seen.source),
        "author": seen.author,
        "reason": shown.told(record, seen.reason),
        "job": shown.detail_link("pems_sync_job", edit.job_id, "job") if edit and edit.job_id else "",
        "first": seen.first,
        "changes": shown.side_by_side(
            record,
            {each.field: each.before for each in seen.changes},
            {each.field: each.after for each in seen.changes},
        ),
    }
