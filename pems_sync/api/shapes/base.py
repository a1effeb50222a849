"""What all shapes share: errors, pages, wanted values."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers
from rest_framework.serializers import (
    CharField,
    DictField,
    JSONField,
)


class Shape(serializers.Serializer[Any]):
    """An answer. Never used to read or write anything."""


class WantedValues(DictField):
    """Values by field name: only those that are meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(child=JSONField(allow_null=True), help_text="values by field name; null clears", **options)


class ErrorShape(Shape):
    error = CharField()
    message = CharField()
    requestId = CharField()
    details = JSONField(allow_null=True)


class FieldProblem(Shape):
    field = CharField()
    code = CharField()
    message = CharField()


def page_of(shape: type[Shape]) -> type[Shape]:
    """The page of a list."""
    name = f"{shape.__name__.removesuffix('Shape')}Page"
    return type(name, (Shape,), {"items": shape(many=True), "nextCursor": CharField(allow_null=True)})


_WHEN = {
    400: "the request is not as it must be",
    401: "not signed in",
    403: "a member without the permission",
    404: "no such thing, or not yours to see",
    409: "not in the present state of things",
    413: "larger than 1 MB",
    415: "not JSON",
    429: "too many requests",
    503: "PEMS did not answer",
}


def answers(*statuses: int) -> dict[int, OpenApiResponse]:
    """The errors an operation may answer with, besides 401 and 429, which all may."""
    return {status: OpenApiResponse(ErrorShape, _WHEN[status]) for status in sorted({401, 429, *statuses})}
