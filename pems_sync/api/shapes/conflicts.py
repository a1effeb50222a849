"""Conflicts, one by one and many at once."""

from __future__ import annotations

from rest_framework.serializers import (
    BooleanField,
    CharField,
    ChoiceField,
    DateTimeField,
    IntegerField,
    JSONField,
    ListField,
    UUIDField,
)

from pems_sync.api.shapes.base import FieldProblem, Shape, WantedValues
from pems_sync.drift import ConflictKind


class ConflictField(Shape):
    name = CharField()
    base = JSONField(allow_null=True)
    ours = JSONField(allow_null=True)
    theirs = JSONField(allow_null=True)
    group = CharField(allow_null=True)
    masked = BooleanField()


class WaitingApproval(Shape):
    id = UUIDField()
    askedBy = CharField()
    askedAt = DateTimeField()


class ConflictShape(Shape):
    id = UUIDField()
    pfaId = CharField()
    organizationId = CharField()
    kind = ChoiceField([str(each) for each in ConflictKind])
    status = ChoiceField(["unresolved", "resolved"])
    pemsVersion = IntegerField()
    modificationId = UUIDField()
    author = CharField()
    reason = CharField()
    fields = ConflictField(many=True)  # type: ignore[assignment]  # a name on the wire
    pattern = CharField(
        help_text="the same for conflicts in which PEMS made the same change; amounts cannot be read in it"
    )
    masked = BooleanField()
    openedAt = DateTimeField()
    theirsAt = DateTimeField(allow_null=True, help_text="when PEMS changed the record")
    resolvedAt = DateTimeField(allow_null=True)
    resolvedBy = CharField(allow_null=True)
    resolution = CharField(allow_null=True)
    comment = CharField(allow_null=True)
    decided = WantedValues(allow_null=True)
    undoableUntil = DateTimeField(allow_null=True, help_text="unless it is sent before")
    approval = WaitingApproval(allow_null=True)


class ResolvedShape(Shape):
    success = BooleanField()
    conflictId = UUIDField()
    resolvedAt = DateTimeField()
    appliedChanges = WantedValues()
    requeuedForSync = BooleanField()


class BulkPreviewItem(Shape):
    conflictId = UUIDField()
    pfaId = CharField()
    pemsVersion = IntegerField()
    resolution = CharField()
    fields = ConflictField(many=True)  # type: ignore[assignment]  # a name on the wire
    changes = WantedValues()
    problems = FieldProblem(many=True)
    needsApproval = BooleanField()


class BulkSkipped(Shape):
    id = UUIDField()
    reason = CharField()


class BulkFailed(Shape):
    id = UUIDField()
    error = CharField()
    message = CharField()


class BulkPreviewShape(Shape):
    items = BulkPreviewItem(many=True)
    skipped = BulkSkipped(many=True)
    count = IntegerField()
    previewToken = CharField()
    expiresAt = DateTimeField()


class BulkResolvedShape(Shape):
    applied = ListField(child=UUIDField())
    skipped = BulkSkipped(many=True)
    failed = BulkFailed(many=True)
