"""Counts of finished work by hour, so that sync-status costs the same with a thousand finished rows and a million."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from pems_sync.models.organization import Organization

LATENCY_BUCKETS_SECONDS = (
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
    900.0,
    3600.0,
    86400.0,
)


class HourTally(models.Model):
    """One hour of one organization. Written with the journal, under its head's lock."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="tallies")
    hour = models.DateTimeField()
    committed = models.PositiveIntegerField(default=0, db_default=0, help_text="accepted edits, however they end (I2)")
    confirmed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    conflicts = models.PositiveIntegerField(default=0)
    seconds_total = models.FloatField(default=0, help_text="commit to confirmation, summed")
    latency = ArrayField(models.PositiveIntegerField(), help_text="counts by LATENCY_BUCKETS_SECONDS, and beyond")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "hour"], name="tally_once_per_hour")]


class Conservation(models.Model):
    """The last look at I2: whether every edit an organization has accepted is accounted for."""

    organization = models.OneToOneField(Organization, on_delete=models.CASCADE, related_name="conservation")
    checked_at = models.DateTimeField()
    committed = models.PositiveBigIntegerField(help_text="accepted, by the tallies written with the journal")
    by_state = models.JSONField(help_text="committed modifications by state, as the rows say")
    difference = models.BigIntegerField(help_text="committed less the sum of by_state: anything but 0 is an alarm")
    off_since = models.DateTimeField(null=True, help_text="since when the difference is not 0")
