"""Many conflicts settled alike: choose a side, look at what would happen to each, confirm, read what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse

from conflicts import bulk
from conflicts.admin.comparing import pems_change
from conflicts.admin.forms import comment_in
from conflicts.admin.wording import worded
from conflicts.models import Conflict, Resolution
from pems_sync.access import membership_for
from pems_sync.admin.desk import as_uuid
from pems_sync.errors import DomainError, ForbiddenError, NotFoundError
from pems_sync.models import Membership
from pems_sync.models.organization import Permission

FILTERS = ("field", "kind", "pattern", "author")
WAYS = [
    (Resolution.USE_LOCAL.value, "Use ours in all of them: our edits are sent again and replace PEMS's values"),
    (Resolution.USE_PEMS.value, "Use PEMS's in all of them: its values stand and our edits are withdrawn"),
]


@dataclass(frozen=True)
class Asked:
    """What a request selects. `hidden`: the same again, for the form."""

    slug: str
    selection: bulk.Selection
    hidden: list[tuple[str, str]]

    def described(self, desk: ModelAdmin[Any], request: HttpRequest) -> str:
        """In words, with the amounts of a pattern for those who may see them."""
        if self.selection.ids is not None:
            return f"{len(self.selection.ids)} selected in {self.slug}"
        wanted = self.selection
        rows: Any = desk.get_queryset(request).filter(organization__slug=self.slug, resolved_at=None)
        rows = rows.matching(field=wanted.field, kind=wanted.kind, pattern=wanted.pattern, author=wanted.author)
        one = rows.first() if wanted.pattern else None
        narrowed = [f"{name} {value}" for name, value in self.hidden if name in FILTERS and name != "pattern"]
        narrowed += [f"PEMS's change {'; '.join(pems_change(one))}"] if one else []
        return f"All open ones in {self.slug} ({rows.count()})" + (f" with {', '.join(narrowed)}" if narrowed else "")


def asked_for(query: QueryDict) -> Asked:
    """Raises Http404 for ids that are none and for text no filter has."""
    ids = [as_uuid(text) for text in query.getlist("id")]
    filters = {name: query.get(name, "") for name in FILTERS}
    if None in ids or any("\0" in text for text in (query.get("organization", ""), *filters.values())):
        raise Http404
    hidden = [("organization", query.get("organization", "")), *(("id", str(each)) for each in ids)]
    hidden += [(name, value) for name, value in filters.items() if value]
    selection = bulk.Selection(ids=[each for each in ids if each] or None, **filters)
    return Asked(query.get("organization", ""), selection, hidden)


def asked_for_rows(organization_slug: str, ids: list[UUID]) -> Asked:
    hidden = [("organization", organization_slug), *(("id", str(each)) for each in ids)]
    return Asked(organization_slug, bulk.Selection(ids=ids), hidden)


def page(desk: ModelAdmin[Any], request: HttpRequest) -> HttpResponse:
    query = request.POST if request.method == "POST" else request.GET
    asked = asked_for(query)
    membership = _decider(request, asked.slug)
    act = request.POST.get("act", "")
    try:
        if act == "apply":
            comment = comment_in(request.POST.get("comment", ""))
            result = bulk.apply(membership=membership, token=request.POST.get("token", ""), comment=comment)
            return drawn(desk, request, asked, result=_told(desk, request, result))
        if act == "preview":
            return _previewed(desk, request, asked, membership)
    except (DomainError, ValidationError) as refused:
        return drawn(desk, request, asked, trouble=refused.message)
    return drawn(desk, request, asked)


def _decider(request: HttpRequest, slug: str) -> Membership:
    try:
        return membership_for(request.user, slug, Permission.RESOLVE)
    except NotFoundError as refused:
        raise Http404 from refused
    except ForbiddenError as refused:
        raise PermissionDenied(refused.message) from refused


def _previewed(desk: ModelAdmin[Any], request: HttpRequest, asked: Asked, membership: Membership) -> HttpResponse:
    resolution = request.POST.get("resolution", "")
    if resolution not in dict(WAYS):
        return drawn(desk, request, asked, trouble="Choose one of the two ways.")
    shown = bulk.preview(membership=membership, selection=asked.selection, resolution=Resolution(resolution))
    money = membership.allows(Permission.VIEW_FINANCIALS)
    return drawn(
        desk, request, asked, resolution=resolution, token=shown.token, way=dict(WAYS)[resolution],
        items=[_item(each, money=money) for each in shown.items], sound=sum(not each.problems for each in shown.items),
        skipped=_named(desk, request, list(shown.skipped.items())),
    )  # fmt: skip


def _item(item: bulk.Item, *, money: bool) -> dict[str, Any]:
    fields = item.conflict.fields
    return {
        "conflict": item.conflict,
        "values": [_sides(each, money=money) for each in fields],
        "problems": [each.message for each in item.problems],
        "needs_approval": item.needs_approval,
    }


def _sides(each: dict[str, Any], *, money: bool) -> dict[str, str]:
    texts = {side: worded(each["name"], each[side], money=money) for side in ("base", "ours", "theirs")}
    return {"name": each["name"], **texts}


def _told(desk: ModelAdmin[Any], request: HttpRequest, result: bulk.BulkResult) -> dict[str, Any]:
    return {
        "applied": _named(desk, request, [(key, "") for key in result.applied]),
        "skipped": _named(desk, request, list(result.skipped.items())),
        "failed": _named(desk, request, [(key, sentence) for key, (_, sentence) in result.failed.items()]),
    }


def _named(desk: ModelAdmin[Any], request: HttpRequest, told: list[tuple[UUID, str]]) -> list[tuple[UUID, str, str]]:
    """Each with its PFA id, as far as it may be seen."""
    names: dict[UUID, str] = dict(
        desk.get_queryset(request).filter(pk__in=[key for key, _ in told]).values_list("pk", "pfa_id")
    )
    return [(key, names.get(key, ""), sentence) for key, sentence in told]


def drawn(desk: ModelAdmin[Any], request: HttpRequest, asked: Asked, **shown: Any) -> HttpResponse:
    context = desk.admin_site.each_context(request) | {
        "title": "Settle conflicts alike", "opts": desk.opts, "media": desk.media, "asked": asked,
        "described": asked.described(desk, request), "ways": WAYS, **shown,
    }  # fmt: skip
    return TemplateResponse(request, "admin/conflicts/alike.html", context)


def open_of(rows: Any) -> dict[str, list[UUID]]:
    """Ids by organization of selected rows, no more than can be settled at once and one."""
    found: dict[str, list[UUID]] = {}
    chosen = rows.filter(resolved_at=None).order_by("opened_at", "pk")[: bulk.MOST_AT_ONCE + 1]
    for key, slug in Conflict.objects.filter(pk__in=chosen.values("pk")).values_list("pk", "organization__slug"):
        found.setdefault(slug, []).append(key)
    return found
