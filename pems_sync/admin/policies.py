"""The policies of an organization on one page: a rule per field and the guard rails. Members with `manage` change them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from pems_sync.access import membership_for
from pems_sync.admin import shown
from pems_sync.admin.desk import DeskAdmin
from pems_sync.admin.scope import scope_of
from pems_sync.errors import DomainError, NotFoundError
from pems_sync.fields import FIELDS, FieldError
from pems_sync.models import Organization
from pems_sync.models.organization import Permission
from pems_sync.models.policy import FieldPolicy
from pems_sync.models.policy import Rule as StoredRule
from pems_sync.policies import RULED, Policies, Rule, rules_for
from pems_sync.services.policing import Standing, set_policies, standing_of

_PREFIX = "rule_"


class RulesForm(forms.Form):
    """A rule for each field, and the threshold: what a proposal to the simulator consists of as well."""

    money_threshold = forms.CharField(
        label="money threshold", required=False, widget=forms.TextInput(attrs={"inputmode": "decimal", "size": 18}),
        help_text="an amount changed by more than this always goes to a person; empty: no threshold",
    )  # fmt: skip

    def __init__(self, *args: Any, standing: Standing, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.standing = standing
        policies = standing.policies
        for name in RULED:
            choices = [(rule.value, StoredRule(rule.value).label) for rule in rules_for(name)]
            initial = policies.rules.get(name, Rule.ASK).value
            self.fields[_PREFIX + name] = forms.ChoiceField(label=name, choices=choices, initial=initial)
        threshold = policies.money_threshold
        self.fields["money_threshold"].initial = "" if threshold is None else f"{threshold:.2f}"

    def clean_money_threshold(self) -> Decimal | None:
        text = self.cleaned_data["money_threshold"]
        try:
            amount = FIELDS["monthlyRate"].parse(text)
        except FieldError as error:
            raise forms.ValidationError(f"The threshold {error.message}.") from error
        if amount is not None and Decimal(str(amount)) < 0:
            raise forms.ValidationError("The threshold must not be negative.")
        return None if amount is None else Decimal(str(amount))

    def rows(self) -> list[tuple[str, forms.BoundField]]:
        """Each field with its group, in the order of the field table."""
        return [(FIELDS[name].group or "", self[_PREFIX + name]) for name in RULED]

    def proposal(self) -> Policies:
        rules = {name: Rule(self.cleaned_data[_PREFIX + name]) for name in RULED}
        return Policies(
            {name: rule for name, rule in rules.items() if rule is not Rule.ASK},
            self.cleaned_data["money_threshold"],
            self.cleaned_data.get("merge_disjoint", self.standing.policies.merge_disjoint),
        )


class PoliciesForm(RulesForm):
    merge_disjoint = forms.BooleanField(
        label="go on by itself where PEMS moved in other fields only", required=False,
    )  # fmt: skip
    second_approval = forms.BooleanField(
        label="above the threshold, resolutions and rollbacks need another person's approval", required=False
    )

    def __init__(self, *args: Any, standing: Standing, editable: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, standing=standing, **kwargs)
        self.fields["merge_disjoint"].initial = standing.policies.merge_disjoint
        self.fields["second_approval"].initial = standing.second_approval
        for each in self.fields.values():
            each.disabled = not editable


def chosen_organization(request: HttpRequest) -> Organization | None:
    """The one that is named, else the first. A foreign one answers as one that does not exist: it is not chosen."""
    organizations = scope_of(request).organizations()
    slug = request.POST.get("organization") or request.GET.get("organization")
    return next((each for each in organizations if slug in (None, each.slug)), None)


@admin.register(FieldPolicy)
class FieldPolicyAdmin(DeskAdmin):
    fieldsets = ((None, {"fields": ("organization", "field", "rule", "changed", "changed_by")}),)
    ordering = ("organization", "field")

    @admin.display(description="changed at")
    def changed(self, row: FieldPolicy) -> str:
        return shown.when(row.changed_at)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Instead of a list of rules: all of them on one page, of one organization at a time."""
        if not self.has_view_permission(request):
            return super().changelist_view(request, extra_context)
        organization = chosen_organization(request)
        if organization is None:
            self.message_user(request, "There is no such organization, or it is not yours.", messages.ERROR)
            return HttpResponseRedirect("/admin/")
        membership = scope_of(request).memberships.get(organization.pk)
        editable = membership is not None and membership.allows(Permission.MANAGE)
        standing = standing_of(organization)
        if request.method != "POST":
            return self._page(request, organization, PoliciesForm(standing=standing, editable=editable), editable)
        form = PoliciesForm(request.POST, standing=standing)
        return self._save(request, organization, form) or self._page(request, organization, form, editable)

    def _save(self, request: HttpRequest, organization: Organization, form: PoliciesForm) -> HttpResponse | None:
        """None when the form has to be shown again."""
        try:
            membership = membership_for(request.user, organization.slug, Permission.MANAGE)
            if not form.is_valid():
                return None
            second = form.cleaned_data["second_approval"]
            set_policies(membership=membership, policies=form.proposal(), second_approval=second)
            self.message_user(request, f"The policies of {organization.name} are saved.", messages.SUCCESS)
        except NotFoundError:
            self.message_user(
                request, "Only members of the organization decide here; nothing was done.", messages.ERROR
            )
        except DomainError as error:
            self.message_user(request, error.message, messages.ERROR)
        return HttpResponseRedirect(f"{request.path}?organization={organization.slug}")

    def _page(
        self, request: HttpRequest, organization: Organization, form: PoliciesForm, editable: bool
    ) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "title": f"Policies of {organization.name}", "opts": self.opts, "media": self.media, "form": form,
            "organization": organization, "organizations": scope_of(request).organizations(), "editable": editable,
        }  # fmt: skip
        return TemplateResponse(request, "admin/pems_sync/policies.html", context)
