"""A decision that waits for a second person."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from pems_sync.models.organization import Organization


class ApprovalKind(models.TextChoices):
    RESOLUTION = "resolution", "resolution of a conflict"
    ROLLBACK = "rollback", "rollback of a record"
    UNDO = "undo", "undo of a job"


class Approval(models.Model):
    """What somebody wants carried out, kept until another person agrees or refuses."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="approvals")
    kind = models.CharField(max_length=12, choices=ApprovalKind)
    subject = models.CharField(max_length=64, help_text="id of the conflict or job, or PFA id")
    payload = models.JSONField(help_text="what is carried out once approved")
    summary = models.CharField(max_length=500, help_text="in plain words, without amounts")
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField(auto_now_add=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True)
    approved = models.BooleanField(null=True)
    comment = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "kind", "subject"],
                condition=Q(decided_at=None),
                name="one_open_approval_per_subject",
            ),
            models.CheckConstraint(
                condition=Q(decided_by=None) | ~Q(decided_by=F("asked_by")), name="approved_by_another_person"
            ),
        ]
        indexes = [models.Index(F("organization"), F("asked_at").desc(), name="approval_newest_first")]
