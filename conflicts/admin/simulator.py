"""The simulator's page: rules are proposed, and replayed over what people decided. Nothing is changed, so it is a GET."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from conflicts.simulating import Item, Simulation, simulate
from pems_sync.admin.policies import RulesForm, chosen_organization
from pems_sync.admin.scope import scope_of
from pems_sync.admin.shown import HIDDEN
from pems_sync.fields import MONEY_FIELDS
from pems_sync.models import Organization
from pems_sync.models.organization import Permission
from pems_sync.services.policing import standing_of

_MEDIA = forms.Media(css={"all": ["pems_sync/admin.css"]})


def simulator(request: HttpRequest) -> HttpResponse:
    """`?simulate=yes` with a rule per field; without, the form shows what stands now."""
    organization = chosen_organization(request)
    if organization is None:
        raise Http404
    asked = "simulate" in request.GET
    form = RulesForm(request.GET if asked else None, standing=standing_of(organization))
    result = simulate(organization, form.proposal()) if asked and form.is_valid() else None
    context = admin.site.each_context(request) | {
        "title": f"Policy simulator: {organization.name}", "media": _MEDIA, "form": form, "result": result,
        "organization": organization, "organizations": scope_of(request).organizations(),
        "counts": result.as_wire(money=False) if result else None, "items": _items(request, organization, result),
    }  # fmt: skip
    return TemplateResponse(request, "admin/conflicts/simulator.html", context)


def _items(request: HttpRequest, organization: Organization, result: Simulation | None) -> list[dict[str, Any]]:
    scope = scope_of(request)
    membership = scope.memberships.get(organization.pk)
    money = scope.sees_everything or (membership is not None and membership.allows(Permission.VIEW_FINANCIALS))
    return [_item(each, hidden=not money and each.field in MONEY_FIELDS) for each in (result.items if result else [])]


def _item(item: Item, *, hidden: bool) -> dict[str, Any]:
    person, policy = (HIDDEN if hidden else _shown(value) for value in (item.person, item.policy))
    return {"id": item.conflict_id, "pfa_id": item.pfa_id, "field": item.field, "person": person, "policy": policy}


def _shown(value: str | bool | None) -> str:
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else value
