"""What was, what a way back would change, and what waits for a second person."""

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

from pems_sync.api.shapes.base import FieldProblem, Shape
from pems_sync.history import Source
from pems_sync.models.approval import ApprovalKind


class ApprovalShape(Shape):
    id = UUIDField()
    organizationId = CharField()
    kind = ChoiceField(ApprovalKind.choices)
    subject = CharField(help_text="id of the conflict or job, or PFA id")
    status = ChoiceField(["open", "decided"])
    summary = CharField()
    payload = JSONField(help_text="what is carried out once approved")
    masked = BooleanField()
    askedBy = CharField()
    askedAt = DateTimeField()
    decidedBy = CharField(allow_null=True)
    decidedAt = DateTimeField(allow_null=True)
    approved = BooleanField(allow_null=True)
    comment = CharField(allow_null=True)


class ApprovalPending(Shape):
    """202: nothing was carried out yet, another person has to agree first."""

    success = BooleanField(help_text="false")
    approvalId = UUIDField()
    error = CharField(help_text="APPROVAL_PENDING")
    message = CharField()
    requestId = CharField()
    details = JSONField()


FieldChange: type[Shape] = type(
    "FieldChange",
    (Shape,),
    {"field": CharField(), "from": JSONField(allow_null=True), "to": JSONField(allow_null=True)},
)
"""`from` is a word of Python's, so these are named as text. Amounts are null for those who may not see them."""


class SkippedField(Shape):
    field = CharField()
    reason = CharField()


class HistoryShape(Shape):
    version = IntegerField()
    changedAt = DateTimeField(allow_null=True, help_text="by PEMS's clock")
    seenAt = DateTimeField()
    author = CharField(allow_null=True, help_text="the planner, or whom PEMS names")
    source = ChoiceField([str(each) for each in Source])  # type: ignore[assignment]  # a name on the wire
    reason = CharField(allow_null=True)
    modificationId = UUIDField(allow_null=True)
    jobId = UUIDField(allow_null=True)
    changedFields = FieldChange(many=True, help_text="since the version seen before; of the first one seen, none")
    masked = BooleanField()


class RollbackPreview(Shape):
    changes = FieldChange(many=True)
    pemsVersion = IntegerField(help_text="the version of PEMS it was compared with")
    skipped = SkippedField(many=True)
    errors = FieldProblem(many=True, help_text="with any, it is not carried out")  # type: ignore[assignment]
    openEdits = IntegerField(help_text="committed edits of the record that are not done yet: it goes behind them")
    needsApproval = BooleanField()
    masked = BooleanField()


class UndoItem(Shape):
    pfaId = CharField()
    modificationIds = ListField(child=UUIDField())
    changes = FieldChange(many=True)
    skipped = SkippedField(many=True)
    errors = FieldProblem(many=True, help_text="with any, it stays as it is")  # type: ignore[assignment]


class UndoCounts(Shape):
    records = IntegerField()
    restored = IntegerField(help_text="records that would change")
    refused = IntegerField(help_text="records with errors")
    unchanged = IntegerField()
    skippedFields = IntegerField()


class UndoPreview(Shape):
    items = UndoItem(many=True)
    counts = UndoCounts()
    needsApproval = BooleanField()
    masked = BooleanField()


class AuditShape(Shape):
    position = IntegerField()
    at = DateTimeField()
    event = CharField()
    pfaId = CharField(allow_null=True)
    modificationId = UUIDField(allow_null=True)
    actor = CharField(help_text="a username, or the process that acted")
    onBehalfOf = CharField(allow_null=True)
    reason = CharField(allow_null=True)
    before = JSONField(allow_null=True)
    after = JSONField(allow_null=True)
    details = JSONField(allow_null=True)
    masked = BooleanField()
    requestId = CharField(allow_null=True)
    address = CharField(allow_null=True)
    hash = CharField(help_text="SHA-256 over this entry and the hash before")
