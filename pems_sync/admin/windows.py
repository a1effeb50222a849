"""Maintenance windows of connections: superusers add, change and remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from pems_sync.admin import shown
from pems_sync.admin.desk import DeskAdmin
from pems_sync.clock import database_now
from pems_sync.maintenance import timetable_of
from pems_sync.models import MaintenanceWindow
from pems_sync.services.maintaining import Plan, add_window, change_window, remove_window

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[MaintenanceWindow]
else:
    _ModelForm = forms.ModelForm

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class WindowForm(_ModelForm):
    weekdays = forms.TypedMultipleChoiceField(
        choices=list(enumerate(_DAYS)), coerce=int, required=False, widget=forms.CheckboxSelectMultiple,
        help_text="on which it begins; none: every day",
    )  # fmt: skip
    minutes = forms.IntegerField(help_text="how long it lasts, 1 to 10080; it may reach into other days")

    class Meta:
        model = MaintenanceWindow
        fields = ("connection", "name", "timezone", "weekdays", "starts", "minutes", "first_day", "last_day")

    def clean(self) -> dict[str, Any]:
        super().clean()
        if not {"name", "starts", "minutes", "timezone"} <= self.cleaned_data.keys():
            return self.cleaned_data
        for field, text in self.plan().problems().items():
            self.add_error(field, f"This {text}")
        return self.cleaned_data

    def plan(self) -> Plan:
        said = self.cleaned_data
        return Plan(
            name=said["name"], starts=said["starts"], minutes=said["minutes"], timezone=said["timezone"],
            weekdays=tuple(said.get("weekdays") or ()), first_day=said.get("first_day"), last_day=said.get("last_day"),
        )  # fmt: skip


@admin.register(MaintenanceWindow)
class MaintenanceWindowAdmin(DeskAdmin):
    """Written by the service alone, which journals it."""

    organization_path = "connection__organizations"
    superusers_only = True
    form = WindowForm
    change_form_template = "admin/change_form.html"
    list_display = ("name", "connection", "days", "starts", "timezone", "minutes", "first_day", "last_day", "now")
    ordering = ("connection", "pk")
    fieldsets = (
        (None, {"fields": ("connection", "name")}),
        ("When", {"fields": ("timezone", "weekdays", "starts", "minutes", "first_day", "last_day")}),
    )

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return ["connection"] if obj is not None else []

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        actor = request.user.get_username()
        if change:
            change_window(obj.connection, obj.pk, form.plan(), actor=actor)
        else:
            obj.pk = add_window(obj.connection, form.plan(), actor=actor).pk

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        remove_window(obj.connection, obj.pk, actor=request.user.get_username())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for each in queryset.select_related("connection"):
            self.delete_model(request, each)

    @admin.display
    def days(self, row: MaintenanceWindow) -> str:
        return ", ".join(_DAYS[day][:3] for day in sorted(row.weekdays)) or "every day"

    @admin.display(description="open until")
    def now(self, row: MaintenanceWindow) -> str:
        return shown.when(timetable_of(row).open_until(database_now()))
