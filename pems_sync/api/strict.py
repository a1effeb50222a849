"""Request serializers that take what API.md names and nothing else: unknown keys and near-miss types are 400."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from pems_sync.api.texts import cleaned, is_printable

BIGGEST = 2**63 - 1


class Strict(serializers.Serializer[Any]):
    """Refuses keys it does not know, naming them."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [str(key) for key in data if key not in self.fields]
            if unknown:
                raise ValidationError({key[:100]: _unknown(key) for key in unknown[:20]})
        return super().to_internal_value(data)


def _unknown(key: str) -> list[Any]:
    return [serializers.ErrorDetail(f"'{key[:100]}' is not known here.", code="unknown")]


def checked(kind: type[Strict], data: Mapping[str, Any]) -> dict[str, Any]:
    """The validated values of a body. Raises ValidationError."""
    serializer = kind(data=data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def checked_query(kind: type[Strict], query: QueryDict) -> dict[str, Any]:
    """As `checked`, for a query string: one value per name."""
    repeated = [name for name in query if len(query.getlist(name)) > 1]
    if repeated:
        raise ValidationError(
            {name[:100]: [serializers.ErrorDetail("is given twice.", code="repeated")] for name in repeated[:20]}
        )
    return checked(kind, query.dict())


class Text(serializers.CharField):
    """A JSON string without control characters; never a number turned into one."""

    default_error_messages = {
        "invalid": "must be text.",
        "control": "contains control characters or broken Unicode.",
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if not is_printable(data):
            self.fail("control")
        return super().to_internal_value(data)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if isinstance(data, str) and not is_printable(data):
            raise ValidationError([serializers.ErrorDetail(str(self.error_messages["control"]), code="control")])
        return super().run_validation(data)


class Said(Text):
    """A reason or comment: at most 500 characters, cleaned of markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=500, **{"allow_blank": not options.get("required", True)} | options)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        said = super().run_validation(data)
        if not isinstance(said, str):
            return said
        plain = cleaned(said)
        if not plain and not self.allow_blank:
            self.fail("blank")
        if not is_printable(plain):
            self.fail("control")
        return plain[:500]


class Whole(serializers.IntegerField):
    """A JSON integer: no text, no fraction, no boolean."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise ValidationError([serializers.ErrorDetail("must be a whole number.", code="invalid")])
        return data


class Flag(serializers.BooleanField):
    """A JSON boolean: no text and no number that looks like one."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise ValidationError([serializers.ErrorDetail("must be true or false.", code="invalid")])
        return data


class Version(Whole):
    """A version of a record in PEMS."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, max_value=BIGGEST, **options)


class Id(serializers.UUIDField):
    """A UUID in its usual form."""

    def to_internal_value(self, data: Any) -> UUID:
        if not isinstance(data, str) or not re.fullmatch(r"[0-9a-fA-F-]{32,36}", data):
            self.fail("invalid", value="")
        return UUID(str(super().to_internal_value(data)))


class Changes(serializers.DictField):
    """Wanted values by field name. The engine reads them (pems_sync.validation): here only the form is checked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(child=serializers.JSONField(allow_null=True), **options)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("not_a_dict", input_type=type(data).__name__)
        if len(data) > 100:
            raise ValidationError([serializers.ErrorDetail("names more than 100 fields.", code="max_length")])
        return data


class Slug(Text):
    """`organizationId`. Whether it exists, for this user, is said by the access gate alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=50, **options)


class Number(serializers.IntegerField):
    """A whole number in a query string."""

    def to_internal_value(self, data: Any) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", str(data), re.ASCII):
            raise ValidationError([serializers.ErrorDetail("must be a whole number.", code="invalid")])
        return int(data)


class Moment(serializers.DateTimeField):
    """A time or a day in a query string, UTC where it does not say."""

    def to_internal_value(self, value: Any) -> Any:
        if not isinstance(value, str) or len(value) > 40 or not value.isascii():
            self.fail("invalid", format="2026-01-31 or 2026-01-31T12:00:00Z")
        text = f"{value}T00:00:00Z" if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else value
        try:
            return super().to_internal_value(text.replace(" ", "+"))
        except (ValueError, OverflowError):
            self.fail("invalid", format="2026-01-31 or 2026-01-31T12:00:00Z")


class Paged(Strict):
    """What every list takes."""

    limit = Number(required=False, min_value=1, max_value=200, default=50, help_text="1 to 200")
    cursor = Text(required=False, max_length=2000, help_text="`nextCursor` of the page before")


class NoQuery(Strict):
    """A query string or body with nothing in it."""
