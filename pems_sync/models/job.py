"""The modifications of one write-sync, or one inbound pull."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from pems_sync.models.organization import Organization


class JobKind(models.TextChoices):
    WRITE_SYNC = "write_sync"
    PULL = "pull"
    SWEEP = "sweep"
    RECONCILE = "reconcile"
    ROLLBACK = "rollback"
    UNDO = "undo"


class Job(models.Model):
    """Progress of what is written is counted from its modifications; what is read carries its own counts."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="jobs")
    kind = models.CharField(max_length=16, choices=JobKind)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    reason = models.CharField(max_length=500, blank=True, default="")
    total = models.PositiveIntegerField(default=0)
    seen = models.PositiveIntegerField(default=0, help_text="pull: rows received")
    changed = models.PositiveIntegerField(default=0, help_text="pull: rows that differed")
    skipped = models.PositiveIntegerField(default=0, help_text="pull: rows refused, with their reason in `errors`")
    errors = models.JSONField(default=list)
    undoes = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="undone_by")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["organization", "-started_at", "id"], name="job_newest_first")]  # sync-logs


class IdempotentRequest(models.Model):
    """The answer given to an `Idempotency-Key`, repeated for 24 hours."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    body_hash = models.CharField(max_length=64)
    answer = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_once_per_user")]
