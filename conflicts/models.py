"""What a person resolves: both sides changed the same field or group."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from pems_sync.drift import ConflictKind
from pems_sync.models import Modification, Organization


class Resolution(models.TextChoices):
    USE_LOCAL = "use_local"
    USE_PEMS = "use_pems"
    MERGE = "merge"
    WITHDRAWN = "withdrawn", "edit withdrawn"


class ConflictQuerySet(models.QuerySet["Conflict"]):
    def unresolved(self) -> ConflictQuerySet:
        return self.filter(resolved_at=None)

    def resolved(self) -> ConflictQuerySet:
        return self.exclude(resolved_at=None)

    def matching(self, *, field: str = "", kind: str = "", pattern: str = "", author: str = "") -> ConflictQuerySet:
        """Those that have each of what is given. `author`: a username."""
        wanted = Q()
        if field:
            wanted &= Q(field_names__contains=[field])
        if kind:
            wanted &= Q(kind=kind)
        if pattern:
            wanted &= Q(pattern=pattern)
        if author:
            wanted &= Q(modification__author__username=author)
        return self.filter(wanted)

    def with_people(self) -> ConflictQuerySet:
        return self.select_related("organization", "resolved_by", "modification__author")

    def with_what_it_is_about(self) -> ConflictQuerySet:
        return self.with_people().select_related("modification__record")


class Conflict(models.Model):
    """Three values per field of each clashing unit, as they were when it opened or last moved."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="conflicts")
    modification = models.ForeignKey(Modification, on_delete=models.PROTECT, related_name="conflicts")
    pfa_id = models.CharField(max_length=64)
    kind = models.CharField(max_length=20, choices=[(kind.value, kind.value) for kind in ConflictKind])
    pems_version = models.BigIntegerField(help_text="PEMS version whose values are shown as theirs")
    fields = models.JSONField(help_text="[{name, base, ours, theirs, group}], canonical values")
    field_names = ArrayField(models.CharField(max_length=64), default=list, help_text="the names in `fields`")
    pattern = models.CharField(
        max_length=300,
        blank=True,
        default="",
        help_text="same field, same from → to: conflicts that can be settled alike",
    )
    theirs_at = models.DateTimeField(null=True, help_text="when PEMS changed the record")
    opened_at = models.DateTimeField(auto_now_add=True)
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    resolution = models.CharField(max_length=12, choices=Resolution, blank=True, default="")
    comment = models.CharField(max_length=500, blank=True, default="")
    decided = models.JSONField(null=True, help_text="values that stood, once resolved; the losers stay in `fields`")

    objects = ConflictQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["modification"], condition=Q(resolved_at=None), name="k8_one_open_conflict_per_modification"
            ),
        ]
        indexes = [
            models.Index(F("organization"), F("opened_at").desc(), F("id"), name="conflict_newest_first"),
            models.Index(
                fields=["organization", "pattern"], condition=Q(resolved_at=None), name="conflict_open_patterns"
            ),
        ]
