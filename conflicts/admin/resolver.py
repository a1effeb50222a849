"""The page of one conflict: three values side by side, a form to decide, a preview before anything is done."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from conflicts.admin import comparing
from conflicts.admin.deciding import (
    RESOLUTIONS,
    Applied,
    Moved,
    Refused,
    TooLate,
    carry_out,
    how_it_was_resolved,
)
from conflicts.admin.following import PRESERVED, address_after, address_of
from conflicts.admin.forms import DecisionForm
from conflicts.admin.previewing import Previewed, preview
from conflicts.admin.wording import kind_word, moment, worded
from conflicts.approving import open_approvals
from conflicts.freshness import is_current, refreshed
from conflicts.models import Conflict
from conflicts.undoing import undo, undoable_until
from pems_sync.access import membership_for
from pems_sync.admin.scope import scope_of
from pems_sync.errors import DomainError, ForbiddenError, NotFoundError
from pems_sync.models import JournalHead, Membership
from pems_sync.models.organization import Permission

MOVED = (
    "PEMS has changed this record since you looked: nothing was done. The values below are the new ones; what you chose "
    "and typed is still here. Look again, then apply."
)


def found(desk: ModelAdmin[Any], request: HttpRequest, key: UUID | None) -> Conflict | None:
    """The conflict, if it may be seen, as PEMS stands now (K5)."""
    heads = JournalHead.objects.filter(organization=OuterRef("organization"))
    rows = desk.get_queryset(request).with_what_it_is_about()  # type: ignore[attr-defined]
    rows = rows.annotate(seq=Subquery(heads.values("seq")))  # what the page shows is as of this event
    conflict: Conflict | None = rows.filter(pk=key).first() if key else None
    if conflict is None or conflict.resolved_at or is_current(conflict, conflict.modification.record):
        return conflict
    refreshed(conflict)
    brought_up_to_date: Conflict | None = rows.filter(pk=key).first()
    return brought_up_to_date


def page(desk: ModelAdmin[Any], request: HttpRequest, conflict: Conflict) -> HttpResponse:
    if request.method == "POST":
        return _decide(desk, request, conflict, decider(request, conflict))
    return _drawn(desk, request, conflict)


def decider(request: HttpRequest, conflict: Conflict) -> Membership:
    """The membership with which this user decides. Seeing it all, as superusers do, is not enough."""
    try:
        return membership_for(request.user, conflict.organization.slug, Permission.RESOLVE)
    except (NotFoundError, ForbiddenError) as refused:
        raise PermissionDenied(refused.message) from refused


def _decide(desk: ModelAdmin[Any], request: HttpRequest, conflict: Conflict, membership: Membership) -> HttpResponse:
    if conflict.resolved_at:
        return _too_late(request, how_it_was_resolved(conflict))
    form = DecisionForm(request.POST, conflict=conflict, membership=membership)
    if not form.is_valid():
        return _drawn(desk, request, conflict, form=form, only_looking=request.POST.get("act") == "look")
    if request.POST.get("act") != "apply":
        return _drawn(desk, request, conflict, form=form, previewed=_previewed(conflict, form, membership))
    match carry_out(conflict, form, membership):
        case Applied(sentence, undoable):
            tags = str(conflict.pk) if undoable else ""
            messages.success(request, sentence, extra_tags=tags)
            return HttpResponseRedirect(address_after(desk, request, conflict))
        case Moved():
            now = found(desk, request, conflict.pk) or conflict
            again = DecisionForm(request.POST, conflict=now, membership=membership)
            return _drawn(desk, request, now, form=again, moved=True)
        case TooLate(sentence):
            return _too_late(request, sentence)
        case Refused(sentence, troubles):
            return _drawn(desk, request, conflict, form=form, refused=sentence, troubles=troubles)


def _too_late(request: HttpRequest, sentence: str) -> HttpResponse:
    messages.error(request, sentence)
    return HttpResponseRedirect(request.get_full_path())


def _previewed(conflict: Conflict, form: DecisionForm, membership: Membership) -> Previewed:
    resolution = form.cleaned_data["resolution"]
    return preview(conflict, resolution=resolution, chosen=form.chosen, membership=membership)


def _drawn(
    desk: ModelAdmin[Any], request: HttpRequest, conflict: Conflict, *, form: DecisionForm | None = None, **shown: Any
) -> HttpResponse:
    membership = scope_of(request).memberships.get(conflict.organization_id)
    decides = membership is not None and membership.allows(Permission.RESOLVE)
    if form is None and decides and membership is not None and not conflict.resolved_at:
        form = DecisionForm(conflict=conflict, membership=membership)
    money = bool(getattr(conflict, "money_shown", False))
    title = f"{conflict.pfa_id} · {kind_word(conflict.kind)}"
    context = desk.admin_site.each_context(request) | {
        "title": title, "heading": title, "opts": desk.opts, "media": desk.media, "conflict": conflict,
        "kind": kind_word(conflict.kind), "rows": comparing.rows(conflict, money=money), "money": money,
        "ours": comparing.our_side(conflict), "theirs": comparing.their_side(conflict),
        "opened": moment(conflict.opened_at), "form": form, "decides": decides, "is_open": not conflict.resolved_at,
        "moved": MOVED if shown.pop("moved", False) or _is_behind(form, conflict) else "",
        "filters": request.GET.get(PRESERVED, ""), **_pending(conflict), **_outcome(conflict, money=money), **shown,
    }  # fmt: skip
    return TemplateResponse(request, "admin/conflicts/resolver.html", context)


def _is_behind(form: DecisionForm | None, conflict: Conflict) -> bool:
    seen = form.data.get("seen_pems_version", "") if form is not None and form.is_bound else ""
    return seen.isdecimal() and int(seen) < conflict.pems_version


def _pending(conflict: Conflict) -> dict[str, Any]:
    """Somebody has decided already, and another person has to agree."""
    return {} if conflict.resolved_at else {"approval": open_approvals([conflict.pk]).get(str(conflict.pk))}


def _outcome(conflict: Conflict, *, money: bool) -> dict[str, Any]:
    """How it was resolved, and whether that can still be taken back."""
    if conflict.resolved_at is None:
        return {}
    stood = [(name, worded(name, value, money=money)) for name, value in (conflict.decided or {}).items()]
    return {
        "resolution": RESOLUTIONS.get(conflict.resolution, conflict.resolution),
        "resolved": moment(conflict.resolved_at),
        "stood": stood,
        "undoable": undoable_until(conflict) is not None,
    }


def fragment(desk: ModelAdmin[Any], request: HttpRequest, conflict_id: UUID) -> HttpResponse:
    """The preview alone, for a page that updates itself while somebody chooses. Writes nothing."""
    conflict = _of_post(desk, request, conflict_id)
    membership = decider(request, conflict)
    form = DecisionForm(request.POST, conflict=conflict, membership=membership)
    shown = {"previewed": _previewed(conflict, form, membership)} if form.is_valid() else {"form": form}
    context = {"conflict": conflict, "behind": _is_behind(form, conflict), **shown}
    return TemplateResponse(request, "admin/conflicts/preview.html", context)


def take_back(desk: ModelAdmin[Any], request: HttpRequest, conflict_id: UUID) -> HttpResponse:
    conflict = _of_post(desk, request, conflict_id)
    try:
        undo(membership=decider(request, conflict), conflict=conflict)
    except DomainError as refused:
        messages.error(request, f"{conflict.pfa_id}: {refused.message}")
    else:
        messages.success(request, f"{conflict.pfa_id}: the decision was taken back; the conflict is open again.")
    return HttpResponseRedirect(address_of(conflict, request.POST.get("filters", "")))


def _of_post(desk: ModelAdmin[Any], request: HttpRequest, conflict_id: UUID) -> Conflict:
    conflict = found(desk, request, conflict_id) if desk.has_view_permission(request) else None
    if conflict is None or request.method != "POST":
        raise Http404
    return conflict
