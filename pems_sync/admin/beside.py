"""Pages beside the detail page of a row, on which people decide: drawn for those who may look, acted on by members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.safestring import SafeString

from pems_sync.access import membership_for
from pems_sync.admin import shown
from pems_sync.admin.desk import DeskAdmin
from pems_sync.admin.scope import scope_of
from pems_sync.api.texts import cleaned, is_printable
from pems_sync.errors import ApprovalNeededError, DomainError
from pems_sync.models import Membership
from pems_sync.models.organization import Permission
from pems_sync.restoring import Plan

LONGEST_REASON = 500
Page = Callable[..., HttpResponse]


class BesideAdmin(DeskAdmin):
    """`beside`: names of the pages; each is a method `<name>_page(request, object_id)` at `<object_id>/<name>/`."""

    beside: Sequence[str] = ()

    def get_urls(self) -> list[Any]:
        return [*(self._url(name) for name in self.beside), *super().get_urls()]

    def _url(self, name: str) -> Any:
        view: Page = getattr(self, f"{name}_page")
        return path(
            f"<path:object_id>/{name}/",
            self.admin_site.admin_view(view),
            name=f"{self.opts.app_label}_{self.opts.model_name}_{name}",
        )

    def row_or_404(self, request: HttpRequest, object_id: str) -> Any:
        """Foreign rows do not exist (I12)."""
        row = self.get_object(request, object_id) if self.has_view_permission(request) else None
        if row is None:
            raise Http404
        return row

    def may(self, request: HttpRequest, row: Any, permission: Permission) -> bool:
        membership = scope_of(request).memberships.get(row.organization_id)
        return membership is not None and membership.allows(permission)

    def acting(self, request: HttpRequest, row: Any, permission: Permission) -> Membership:
        """Unlike looking, deciding needs a membership, and is checked anew (S6)."""
        try:
            return membership_for(request.user, row.organization.slug, permission)
        except DomainError as error:
            raise PermissionDenied from error

    def ways(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """Addresses and words of the buttons on the detail page."""
        return []

    def address(self, name: str, row: Any) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}", args=[row.pk])

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        row = kwargs.get("obj")
        if row is not None:
            context |= {"ways": self.ways(request, row)}
        return super().render_change_form(request, context, *args, **kwargs)

    def drawn_page(self, request: HttpRequest, template: str, row: Any, crumb: str, **context: Any) -> HttpResponse:
        heading = self.heading(row)
        whole = self.admin_site.each_context(request) | {
            "title": f"{crumb}: {heading}", "opts": self.opts, "media": self.media, "row": row, "heading": heading,
            "crumb": crumb, "longest_reason": LONGEST_REASON,
        }  # fmt: skip
        return TemplateResponse(request, f"admin/pems_sync/{template}.html", whole | context)

    def done(self, request: HttpRequest, row: Any, sentence: str, level: int = messages.SUCCESS) -> HttpResponse:
        self.message_user(request, sentence, level)
        return HttpResponseRedirect(self.address("change", row))

    def waits(self, request: HttpRequest, row: Any, error: ApprovalNeededError) -> HttpResponse:
        return self.done(request, row, error.message, messages.WARNING)


def text_in(request: HttpRequest, name: str, *, needed: bool) -> tuple[str, str]:
    """A reason or comment as it is kept, and what is wrong with it."""
    text = cleaned(request.POST.get(name, ""))
    if needed and not text:
        return text, "Say why: the reason is kept in the history."
    if len(text) > LONGEST_REASON or not is_printable(text):
        return text, f"The {name} must be plain text of at most {LONGEST_REASON} characters."
    return text, ""


def drawn_plan(row: Any, plan: Plan) -> SafeString:
    """`row` says whether amounts may be seen."""
    return shown.drawn("plan", plan=plan, changes=shown.side_by_side(row, plan.before, plan.changes))
