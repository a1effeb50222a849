"""What lists can be narrowed to. Each offers, and accepts, only what the user may see anyway."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from pems_sync.admin.desk import as_uuid
from pems_sync.admin.scope import scope_of
from pems_sync.api.wire import STATUS_WORDS, having_status
from pems_sync.models.attempt import OutcomeKind
from pems_sync.models.job import JobKind
from pems_sync.models.modification import Operation
from pems_sync.states import DeadReason

MOST_AUTHORS = 100


class DeskFilter(admin.SimpleListFilter):
    """A value that is not among the choices finds nothing: a foreign one looks like one that does not exist."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        offered = {str(key) for key, _ in self.lookup_choices}
        return queryset.filter(self.condition(value)) if value in offered else queryset.none()

    def condition(self, value: str) -> Q:
        raise NotImplementedError


class OrganizationFilter(DeskFilter):
    title = "organization"
    parameter_name = "organization"
    path: ClassVar[str] = "organization"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        self._ids = {each.slug: each.pk for each in scope_of(request).organizations()}
        return [(slug, slug) for slug in self._ids]

    def condition(self, value: str) -> Q:
        return Q(**{self.path: self._ids[value]})


class OrganizationOfAttemptFilter(OrganizationFilter):
    path = "modification__organization"


class StatusFilter(DeskFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, word) for word in STATUS_WORDS]

    def condition(self, value: str) -> Q:
        return having_status(value)


class AuthorFilter(DeskFilter):
    """Members of the organizations that may be seen."""

    title = "author"
    parameter_name = "author"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        members = User.objects.filter(memberships__organization__in=scope_of(request).organizations().order_by())
        found = members.distinct().order_by("username").values_list("pk", "username")[:MOST_AUTHORS]
        self._ids = {username: pk for pk, username in found}
        return [(username, username) for username in self._ids]

    def condition(self, value: str) -> Q:
        return Q(author=self._ids[value])


class ChoicesFilter(DeskFilter):
    """One of a closed set of words."""

    words: ClassVar[Iterable[tuple[str, str]]] = ()
    path: ClassVar[str] = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(self.words)

    def condition(self, value: str) -> Q:
        return Q(**{self.path: value})


class OperationFilter(ChoicesFilter):
    title = parameter_name = path = "operation"
    words = Operation.choices


class DeadReasonFilter(ChoicesFilter):
    title, parameter_name, path = "reason", "reason", "dead_reason"
    words = [(reason.value, reason.value) for reason in DeadReason]


class JobKindFilter(ChoicesFilter):
    title = parameter_name = path = "kind"
    words = JobKind.choices


class OutcomeFilter(DeskFilter):
    """Attempts that had such an outcome, among others perhaps."""

    title = parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [*OutcomeKind.choices, ("none", "none yet")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return super().queryset(request, queryset).distinct() if self.value() else queryset

    def condition(self, value: str) -> Q:
        return Q(outcomes__isnull=True) if value == "none" else Q(outcomes__kind=value)


class PeriodFilter(DeskFilter):
    """By the time that `path` names."""

    title, parameter_name = "time", "within"
    path: ClassVar[str] = ""
    periods: ClassVar[dict[str, tuple[str, timedelta]]] = {
        "hour": ("the last hour", timedelta(hours=1)),
        "day": ("the last 24 hours", timedelta(days=1)),
        "week": ("the last 7 days", timedelta(days=7)),
        "month": ("the last 30 days", timedelta(days=30)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, label) for name, (label, _) in self.periods.items()]

    def condition(self, value: str) -> Q:
        return Q(**{f"{self.path}__gte": timezone.now() - self.periods[value][1]})


class SavedFilter(PeriodFilter):
    path = "saved_at"


class StartedFilter(PeriodFilter):
    path = "started_at"


class RecordedFilter(PeriodFilter):
    path = "recorded_at"


class FollowedFilter(DeskFilter):
    """Not offered; a link on another page leads here. Shown while it applies, so that it can be lifted."""

    shown_as: ClassVar[str] = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        value = self.value() or ""
        return [(value, self.shown_as)] if self.is_sound(value) else [("", "")] if value else []

    def is_sound(self, value: str) -> bool:
        raise NotImplementedError


class JobFilter(FollowedFilter):
    title = parameter_name = "job"
    shown_as = "of one job"

    def is_sound(self, value: str) -> bool:
        return as_uuid(value) is not None

    def condition(self, value: str) -> Q:
        return Q(job=value)


class FingerprintFilter(FollowedFilter):
    title, parameter_name = "cause", "fingerprint"
    shown_as = "of one cause"

    def is_sound(self, value: str) -> bool:
        return re.fullmatch(r"[0-9a-f]{16}", value) is not None

    def condition(self, value: str) -> Q:
        return Q(fingerprint=value)
