"""What the machine may settle by itself where both sides changed the same field."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from pems_sync.models.organization import Organization


class Rule(models.TextChoices):
    """Whose value stands. Whatever the rule, the guard rails of the organization ask a person first."""

    ASK = "ask", "ask a person"
    PEMS_WINS = "pems_wins", "PEMS's value stands"
    LOCAL_WINS = "local_wins", "our value stands"
    NEWEST = "newest", "the later change stands"
    MAX = "max", "the larger value stands"
    MIN = "min", "the smaller value stands"


class FieldPolicy(models.Model):
    """One organization's rule for one field; a field without one asks."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="policies")
    field = models.CharField(max_length=64, help_text="name in the field table")
    rule = models.CharField(max_length=12, choices=Rule, default=Rule.ASK)
    changed_at = models.DateTimeField(auto_now=True)
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "field"], name="policy_once_per_field")]
        verbose_name_plural = "field policies"

    def __str__(self) -> str:
        return f"{self.organization}: {self.field} {self.rule}"
