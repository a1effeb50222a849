"""Every try to deliver, written down before it starts, and what came of it. Insert-only (I4)."""

from __future__ import annotations

from django.db import models

from pems_sync.models.modification import Modification
from pems_sync.models.sets import SetQuerySet


class Attempt(models.Model):
    """Committed before the bytes leave: a crash afterwards finds the intent (D1, D3)."""

    modification = models.ForeignKey(Modification, on_delete=models.PROTECT, related_name="ledger")
    epoch = models.PositiveIntegerField()
    delivery_id = models.UUIDField()
    version_sent = models.BigIntegerField()
    idempotency_key = models.UUIDField()
    request = models.JSONField(help_text="what was sent, without credentials")
    batch_of = models.PositiveSmallIntegerField(default=1)
    worker = models.CharField(max_length=64)
    started_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["modification", "epoch"], name="i4_attempt_once_per_epoch")]


class OutcomeKind(models.TextChoices):
    CONFIRMED = "confirmed"
    DRIFT = "drift"
    REJECTED = "rejected"
    BUSY = "busy"
    FAULT = "fault", "connection fault"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent", "not sent"
    SPLIT = "split", "batch refused and split"
    READ_FAILED = "read_failed", "proof: read failed"
    NOT_LANDED = "not_landed", "proof: not landed"
    LANDED = "landed", "proof: landed"
    OVERTAKEN = "overtaken", "proof: overtaken"


class AttemptOutcome(models.Model):
    """What PEMS answered, or what a proof read showed. An attempt may have several."""

    attempt = models.ForeignKey(Attempt, on_delete=models.PROTECT, related_name="outcomes")
    kind = models.CharField(max_length=12, choices=OutcomeKind)
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status, where there was one")
    detail = models.CharField(max_length=500, blank=True, default="")
    response = models.JSONField(null=True, help_text="the answer, cut to what explains it")
    milliseconds = models.PositiveIntegerField(null=True)
    at = models.DateTimeField()

    objects = SetQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["attempt", "at"], name="outcome_of_attempt")]
