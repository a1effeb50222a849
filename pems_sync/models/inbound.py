"""Where the way from PEMS to here stands: cursors, what is due, what webhooks named."""

from __future__ import annotations

from django.db import models

from pems_sync.models.job import Job
from pems_sync.models.organization import Connection, Organization


class InboundState(models.Model):
    """One organization's pulls and sweeps. Written with each page, so that a run goes on where it broke off (N1, N2)."""

    organization = models.OneToOneField(Organization, on_delete=models.CASCADE, related_name="inbound")
    seen_until = models.DateTimeField(null=True, help_text="PEMS time: every change before it was seen")
    run_since = models.DateTimeField(null=True, help_text="the run under way: from here, overlap included")
    run_until = models.DateTimeField(null=True, help_text="the run under way: PEMS time at its start, its upper bound")
    run_cursor = models.CharField(
        max_length=500, blank=True, default="", help_text="the next page of the run under way"
    )
    run_job = models.ForeignKey(Job, on_delete=models.SET_NULL, null=True, related_name="+")
    lease_until = models.DateTimeField(null=True, help_text="somebody is pulling")
    pull_due_at = models.DateTimeField(null=True, help_text="null: as soon as possible")
    sweep_due_at = models.DateTimeField(null=True, help_text="null: not planned yet")
    reconcile_due_at = models.DateTimeField(null=True, help_text="null: not planned yet")
    last_sweep_keys = models.PositiveIntegerField(null=True, help_text="records counted by the last complete sweep")
    brake = models.CharField(max_length=500, blank=True, default="", help_text="why the last sweep buried nothing")
    broken_rows = models.JSONField(default=list, help_text="rows skipped by the last run: [{pfaId, message}]")
    adjusted = models.PositiveBigIntegerField(default=0, help_text="echoes in which PEMS had adjusted a value of ours")
    differences = models.PositiveIntegerField(null=True, help_text="unexplained ones, by the last reconcile")


class WebhookEvent(models.Model):
    """An event id that was accepted: seen again, it changes nothing (S9)."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="+")
    event_id = models.CharField(max_length=200)
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["connection", "event_id"], name="s9_webhook_event_once")]
        indexes = [models.Index(fields=["received_at"], name="webhook_event_age")]


class NamedRead(models.Model):
    """A record that PEMS said has changed, to be read soon. Named twice, it is read once."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    pfa_id = models.CharField(max_length=64)
    named_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "pfa_id"], name="named_read_once")]
