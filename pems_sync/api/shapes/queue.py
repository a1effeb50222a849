"""The queue and its numbers: what was accepted, how it goes, what was given up."""

from __future__ import annotations

from rest_framework.serializers import (
    BooleanField,
    CharField,
    ChoiceField,
    DateField,
    DateTimeField,
    DictField,
    FloatField,
    IntegerField,
    JSONField,
    ListField,
    UUIDField,
)

from pems_sync.api.shapes.base import Shape
from pems_sync.models.job import JobKind
from pems_sync.models.organization import Permission, Role
from pems_sync.states import DeadReason


class Token(Shape):
    token = CharField()
    expiresAt = DateTimeField()


class OrganizationShape(Shape):
    organizationId = CharField()
    code = CharField()
    name = CharField()
    role = ChoiceField(Role.choices)
    permissions = ListField(child=ChoiceField([str(each) for each in Permission]))
    paused = BooleanField()
    connectionId = CharField(required=False, help_text="with the permission `manage` only")


class Pause(Shape):
    organizationId = CharField()
    paused = BooleanField()
    reason = CharField(allow_null=True)


class BreakerShape(Shape):
    organizationId = CharField()
    breaker = ChoiceField(["closed", "open", "half_open"])
    order = ChoiceField(["open", "closed", "auto"])
    reason = CharField(allow_null=True)


class WindowShape(Shape):
    id = IntegerField()
    name = CharField()
    timezone = CharField()
    weekdays = ListField(child=IntegerField(), help_text="0 Monday … 6 Sunday; empty: every day")
    starts = CharField(help_text="HH:MM in that time zone")
    minutes = IntegerField()
    firstDay = DateField(allow_null=True)
    lastDay = DateField(allow_null=True, help_text="of its beginnings")
    open = BooleanField(help_text="now")


class WindowsShape(Shape):
    organizationId = CharField()
    items = WindowShape(many=True)


class Rejected(Shape):
    modificationId = UUIDField()
    errors = JSONField(help_text="[{field, code, message}]")  # type: ignore[assignment]  # a name on the wire


class Accepted(Shape):
    success = BooleanField()
    jobId = UUIDField(allow_null=True)
    queuedCount = IntegerField()
    rejected = Rejected(many=True)
    estimatedCompletionTime = DateTimeField(allow_null=True)


class SyncStatus(Shape):
    totalQueued = IntegerField()
    processing = IntegerField()
    completed = IntegerField()
    failed = IntegerField()
    conflicts = IntegerField()
    unknown = IntegerField()
    deadLetters = IntegerField()
    avgSyncTime = FloatField(help_text="seconds")
    p95SyncTime = FloatField(help_text="seconds")
    oldestQueuedAge = FloatField(allow_null=True, help_text="seconds")
    lastSyncAt = DateTimeField(allow_null=True)
    successRate = FloatField(help_text="0 to 1")
    health = ChoiceField(["healthy", "degraded", "paused", "down"])
    paused = BooleanField()
    breaker = ChoiceField(["closed", "open", "half_open"])
    estimatedDrainSeconds = FloatField(allow_null=True)


class Minute(Shape):
    minute = DateTimeField()
    confirmed = IntegerField()
    failed = IntegerField()


class QueueMetrics(Shape):
    byStatus = DictField(child=IntegerField())
    byOperation = DictField(child=IntegerField())
    byPriority = DictField(child=IntegerField())
    throughput = Minute(many=True)


class JobShape(Shape):
    jobId = UUIDField()
    organizationId = CharField()
    kind = ChoiceField(JobKind.choices)
    status = ChoiceField(["running", "completed", "failed"])
    author = CharField(allow_null=True)
    reason = CharField()
    total = IntegerField()
    done = IntegerField()
    progress = FloatField(help_text="0 to 1")
    counts = DictField(child=IntegerField(), help_text="modifications by status; of a pull seen, changed, skipped")
    startedAt = DateTimeField()
    finishedAt = DateTimeField(allow_null=True)
    durationSeconds = FloatField()


class DeadLetterGroup(Shape):
    fingerprint = CharField()
    reason = ChoiceField([str(each) for each in DeadReason])
    code = CharField()
    message = CharField()
    field = CharField(allow_null=True)
    count = IntegerField()
    modificationIds = ListField(child=UUIDField(), help_text="the first 1,000, in order of their queueing")
    oldestAt = DateTimeField()


class DeadLetterGroups(Shape):
    items = DeadLetterGroup(many=True)


class Discarded(Shape):
    success = BooleanField()
    discardedCount = IntegerField()
    readBackFirst = IntegerField(help_text="may still land: PEMS is read back, then they are discarded")
    rejected = Rejected(many=True)


class PullStarted(Shape):
    jobId = UUIDField()


class Noted(Shape):
    success = BooleanField()
