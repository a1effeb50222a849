"""What the inbox can be narrowed to. Unresolved conflicts are shown unless asked otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from conflicts.admin.wording import kind_word
from pems_sync.admin.filters import AuthorFilter, ChoicesFilter, DeskFilter, FollowedFilter
from pems_sync.drift import ConflictKind
from pems_sync.fields import FIELDS

LONGEST_PATTERN = 300


class StatusFilter(DeskFilter):
    title = parameter_name = "status"
    usual = "unresolved"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [(word, word) for word in (self.usual, "resolved", "all")]

    def value(self) -> str:
        return super().value() or self.usual

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        for word, label in self.lookup_choices:
            query = changelist.get_query_string(
                {self.parameter_name: word} if word != self.usual else {}, [self.parameter_name]
            )
            yield {"selected": self.value() == word, "query_string": query, "display": label}

    def condition(self, value: str) -> Q:
        return Q() if value == "all" else Q(resolved_at__isnull=value == self.usual)


class KindFilter(ChoicesFilter):
    title = parameter_name = path = "kind"
    words = [(kind.value, kind_word(kind.value)) for kind in ConflictKind]


class FieldFilter(DeskFilter):
    """Conflicts in which this field is one of those to decide."""

    title = parameter_name = "field"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [(name, name) for name, field in FIELDS.items() if field.permission]

    def condition(self, value: str) -> Q:
        return Q(field_names__contains=[value])


class AgeFilter(DeskFilter):
    title = parameter_name = "age"
    ages = {
        "hour": ("older than an hour", timedelta(hours=1)),
        "day": ("older than a day", timedelta(days=1)),
        "week": ("older than a week", timedelta(days=7)),
    }

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [(name, label) for name, (label, _) in self.ages.items()]

    def condition(self, value: str) -> Q:
        return Q(opened_at__lt=timezone.now() - self.ages[value][1])


class ConflictAuthorFilter(AuthorFilter):
    def condition(self, value: str) -> Q:
        return Q(modification__author=self._ids[value])


class PatternFilter(FollowedFilter):
    """Leads here from the groups of conflicts that are alike."""

    title = parameter_name = "pattern"
    shown_as = "of one group"

    def is_sound(self, value: str) -> bool:
        return 0 < len(value) <= LONGEST_PATTERN and "\0" not in value

    def condition(self, value: str) -> Q:
        return Q(pattern=value)
