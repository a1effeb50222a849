"""Records and drafts."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.serializers import (
    BooleanField,
    CharField,
    ChoiceField,
    DateField,
    DateTimeField,
    IntegerField,
    JSONField,
    ListField,
    UUIDField,
)

from pems_sync.api.shapes.base import FieldProblem, Shape, WantedValues
from pems_sync.api.wire import STATUS_WORDS
from pems_sync.fields import FIELDS, Field, Kind


def _field_of(field: Field) -> serializers.Field[Any, Any, Any, Any]:
    match field.kind:
        case Kind.DATE:
            return DateField(allow_null=True)
        case Kind.FLAG:
            return BooleanField(allow_null=True)
        case Kind.MONEY:
            return CharField(allow_null=True, help_text="a decimal string with 2 places; null also when hidden")
        case Kind.TEXT:
            return CharField(allow_null=True)


RecordFields: type[Shape] = type("RecordFields", (Shape,), {name: _field_of(field) for name, field in FIELDS.items()})
"""All fields of a record, from the field table."""


class AtRiskValue(Shape):
    name = CharField()
    base = JSONField(allow_null=True, help_text="what the planner started from")
    ours = JSONField(allow_null=True, help_text="what the draft wants")
    theirs = JSONField(allow_null=True, help_text="what PEMS holds now")
    masked = BooleanField()


class DraftShape(Shape):
    modificationId = UUIDField()
    pfaId = CharField()
    changes = WantedValues()
    masked = BooleanField()
    baseVersion = IntegerField()
    status = ChoiceField(STATUS_WORDS)
    reason = CharField()
    atRisk = ListField(child=CharField())
    atRiskValues = AtRiskValue(many=True)
    savedAt = DateTimeField()


class RecordShape(Shape):
    pfaId = CharField()
    organizationId = CharField()
    version = IntegerField()
    fields = RecordFields()  # type: ignore[assignment]  # a name on the wire
    masked = BooleanField()
    draft = DraftShape(allow_null=True)
    syncStatus = ChoiceField(STATUS_WORDS)
    modificationId = UUIDField(allow_null=True)
    updatedAt = DateTimeField(allow_null=True)
    updatedBy = CharField(allow_null=True)
    verified = BooleanField()
    deletedAt = DateTimeField(allow_null=True)


class SavedDraftShape(DraftShape):
    warnings = FieldProblem(many=True)


class BulkItem(Shape):
    pfaId = CharField()
    modificationId = UUIDField(required=False)
    warnings = FieldProblem(many=True, required=False)
    error = CharField(required=False)
    message = CharField(required=False)
    details = JSONField(required=False, allow_null=True)


class BulkSaved(Shape):
    items = BulkItem(many=True)
