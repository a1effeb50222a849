"""Modifications with their story."""

from __future__ import annotations

from rest_framework.serializers import (
    BooleanField,
    CharField,
    ChoiceField,
    DateTimeField,
    IntegerField,
    JSONField,
    UUIDField,
)

from pems_sync.api.shapes.base import Shape, WantedValues
from pems_sync.api.wire import STATUS_WORDS
from pems_sync.models.attempt import OutcomeKind
from pems_sync.models.modification import Operation
from pems_sync.states import DeadReason


class ErrorOfModification(Shape):
    reason = ChoiceField([str(each) for each in DeadReason], allow_null=True)
    code = CharField(allow_null=True)
    message = CharField()
    field = CharField(allow_null=True)


class ModificationShape(Shape):
    id = UUIDField()
    pfaId = CharField()
    organizationId = CharField()
    status = ChoiceField(STATUS_WORDS)
    operation = ChoiceField(Operation.choices)
    changes = WantedValues()
    masked = BooleanField()
    reason = CharField()
    author = CharField()
    priority = IntegerField()
    baseVersion = IntegerField()
    expectedVersion = IntegerField()
    newVersion = IntegerField(allow_null=True)
    createdAt = DateTimeField()
    savedAt = DateTimeField()
    queuedAt = DateTimeField(allow_null=True)
    finishedAt = DateTimeField(allow_null=True)
    jobId = UUIDField(allow_null=True)
    attempts = IntegerField()
    nextAttemptAt = DateTimeField(allow_null=True)
    error = ErrorOfModification(allow_null=True)
    mayStillLand = BooleanField()
    supersededBy = UUIDField(allow_null=True)
    conflictId = UUIDField(allow_null=True)
    autoMerged = BooleanField()
    adjusted = WantedValues()


class ExplanationShape(Shape):
    text = CharField()
    next = CharField()
    nextAt = DateTimeField(allow_null=True)
    whoMustAct = CharField()


class OutcomeShape(Shape):
    at = DateTimeField()
    outcome = ChoiceField(OutcomeKind.choices)
    status = IntegerField(allow_null=True)
    milliseconds = IntegerField(allow_null=True)
    detail = CharField()
    response = JSONField(allow_null=True)


class AttemptShape(Shape):
    number = IntegerField()
    startedAt = DateTimeField()
    versionSent = IntegerField()
    idempotencyKey = UUIDField()
    batchOf = IntegerField()
    request = JSONField()
    outcomes = OutcomeShape(many=True)


class TimelineEntry(Shape):
    at = DateTimeField()
    event = CharField()
    text = CharField()
    actor = CharField()
    onBehalfOf = CharField(allow_null=True)
    reason = CharField(allow_null=True)
    before = JSONField(allow_null=True)
    after = JSONField(allow_null=True)
    details = JSONField(allow_null=True)
    attempt = AttemptShape(allow_null=True)


class ModificationStory(ModificationShape):
    explanation = ExplanationShape()
    timeline = TimelineEntry(many=True)
    ledger = AttemptShape(many=True)
