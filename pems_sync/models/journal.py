"""Append-only and numbered per organization: audit, history page and socket feed are three readings of it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from pems_sync.models.organization import Organization
from pems_sync.models.sets import SetQuerySet


class JournalHead(models.Model):
    """Where an organization's journal ends. Locked by the one call that appends; `organization` null is the chain of
    entries that belong to none."""

    organization = models.OneToOneField(Organization, on_delete=models.PROTECT, null=True, related_name="journal_head")
    position = models.BigIntegerField(default=0)
    seq = models.BigIntegerField(default=0)
    last_hash = models.CharField(max_length=64, default="0" * 64)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization"], nulls_distinct=False, name="one_head_per_chain")
        ]


class JournalEntry(models.Model):
    """`position` is dense over all entries of an organization, `seq` over those that sockets see."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, null=True, related_name="journal")
    position = models.BigIntegerField()
    seq = models.BigIntegerField(null=True)
    kind = models.CharField(max_length=40, help_text="the event, in snake_case past tense")
    wire_type = models.CharField(max_length=32, blank=True, default="", help_text="event type on the socket")
    pfa_id = models.CharField(max_length=64, blank=True, default="")
    modification_id = models.UUIDField(null=True)
    actor = models.CharField(max_length=150, help_text="username, or the process that acted")
    on_behalf_of = models.CharField(max_length=150, blank=True, default="")
    reason = models.CharField(max_length=500, blank=True, default="")
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    details = models.JSONField(default=dict, help_text="what the socket event carries; no field values")
    request_id = models.CharField(max_length=64, blank=True, default="")
    address = models.CharField(max_length=64, blank=True, default="")
    recorded_at = models.DateTimeField()
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    objects = SetQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "position"], nulls_distinct=False, name="i9_position_once"),
            models.UniqueConstraint(fields=["organization", "seq"], name="i10_seq_once"),
        ]
        indexes = [
            models.Index(
                fields=["modification_id", "position"],
                condition=Q(modification_id__isnull=False),
                name="journal_of_modification",
            ),
            models.Index(fields=["organization", "pfa_id", "position"], name="journal_of_record"),
        ]
