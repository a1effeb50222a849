"""What PEMS confirmed last, and every version of it that was seen."""

from __future__ import annotations

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q

from pems_sync.models.organization import Organization
from pems_sync.models.sets import SetQuerySet


class RecordQuerySet(SetQuerySet["Record"]):
    def for_organization(self, organization: Organization) -> RecordQuerySet:
        return self.filter(organization=organization)

    def present(self) -> RecordQuerySet:
        return self.filter(deleted_at=None)

    def locked(self, ids: list[int]) -> RecordQuerySet:
        """Locks in the order of PROTOCOL.md: records first, by id."""
        return self.filter(pk__in=ids).order_by("pk").select_for_update(of=("self",))


class Record(models.Model):
    """The last state of a PFA record that PEMS confirmed (I7). Only inbound and a confirmed delivery change it."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="records")
    pfa_id = models.CharField(max_length=64)
    version = models.BigIntegerField()
    fields = models.JSONField(help_text="canonical values by field name")
    content_hash = models.CharField(max_length=64)
    changed_at = models.DateTimeField(null=True, help_text="PEMS's updatedAt")
    changed_by = models.CharField(max_length=200, blank=True, default="", help_text="PEMS's updatedBy")
    read_due_at = models.DateTimeField(
        null=True, help_text="PEMS confirmed a write without showing the record: unverified, a read is queued"
    )
    deleted_at = models.DateTimeField(null=True, help_text="PEMS no longer knows it")
    missed_sweeps = models.PositiveSmallIntegerField(
        default=0, help_text="complete sweeps in a row that did not show it"
    )

    objects = RecordQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "pfa_id"], name="record_once_per_organization")]
        indexes = [
            GinIndex(fields=["fields"], name="record_fields", opclasses=["jsonb_path_ops"]),  # records?category=…
            models.Index(
                fields=["read_due_at"], condition=Q(read_due_at__isnull=False), name="record_unverified"
            ),  # sweep
        ]

    def __str__(self) -> str:
        return self.pfa_id


class RecordVersion(models.Model):
    """One version of a record as it was seen. Append-only; a draft's base is looked up here (I8)."""

    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="versions")
    version = models.BigIntegerField()
    fields = models.JSONField()
    content_hash = models.CharField(max_length=64)
    changed_at = models.DateTimeField(null=True)
    changed_by = models.CharField(max_length=200, blank=True, default="")
    modification_id = models.UUIDField(null=True, help_text="the modification that made it, where it was ours")
    seen_at = models.DateTimeField(auto_now_add=True)

    objects = SetQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["record", "version", "content_hash"], name="record_version_seen_once")
        ]
