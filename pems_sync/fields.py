"""The PFA field table: name, type, group, who may edit. Validation, drift, serializers and dialects all read it.

Canonical values, the only form stored, compared and shown on the wire: dates `YYYY-MM-DD`, money a decimal string
with two places, flags booleans, text non-empty, and None for unknown or cleared. Two canonical values are the same
value exactly when they are equal.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum

from django.utils.html import strip_tags

Value = str | bool | None
Values = dict[str, Value]

TEXT_LIMIT = 500
MONEY_LIMIT = Decimal(10) ** 12


class FieldError(ValueError):
    """A value that cannot be used, with the code of API.md."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Kind(StrEnum):
    TEXT = "text"
    DATE = "date"
    MONEY = "money"
    FLAG = "flag"


@dataclass(frozen=True)
class Field:
    """One PFA field. `permission` is the membership permission needed to edit it, None where nobody may."""

    name: str
    kind: Kind
    permission: str | None = None
    group: str | None = None
    choices: tuple[str, ...] = ()

    def parse(self, raw: object) -> Value:
        """The canonical value of anything a client or PEMS may send. Raises FieldError."""
        if raw is None:
            return None
        return _PARSERS[self.kind](self, raw)

    def read(self, raw: object) -> Value:
        """The canonical value of what PEMS holds: as `parse`, but a value PEMS accepted is never refused for a rule of ours."""
        if self.kind is Kind.TEXT and isinstance(raw, str):
            return unicodedata.normalize("NFC", raw.replace("\0", "")).strip() or None
        if self.kind is Kind.MONEY and isinstance(raw, int | float) and not isinstance(raw, bool):
            return self.parse(round(Decimal(str(raw)), 2) if abs(raw) < MONEY_LIMIT else raw)
        return self.parse(raw)

    def to_pems(self, value: Value) -> str | float | int | bool | None:
        """The JSON value of the gateway dialect: money as a number, the rest as it is."""
        if self.kind is not Kind.MONEY or value is None:
            return value
        amount = Decimal(str(value))
        return int(amount) if amount == amount.to_integral_value() else float(amount)


def _text(field: Field, raw: object) -> Value:
    if not isinstance(raw, str):
        raise FieldError("INVALID_TYPE", "must be text")
    if any(
        0xD800 <= ord(char) <= 0xDFFF or (unicodedata.category(char) == "Cc" and char not in "\t\n\r") for char in raw
    ):
        raise FieldError("INVALID_VALUE", "contains control characters or broken Unicode")
    text = strip_tags(unicodedata.normalize("NFC", raw)).strip()  # never escaped: PEMS gets what was typed (S4)
    if raw.strip() and not text:
        raise FieldError("INVALID_VALUE", "consists of nothing but markup")
    if len(text) > TEXT_LIMIT:
        raise FieldError("TOO_LONG", f"is longer than {TEXT_LIMIT} characters")
    if text and field.choices:
        return _choice(field, text)
    return text or None


def _choice(field: Field, text: str) -> str:
    if text not in field.choices:
        raise FieldError("INVALID_ENUM_VALUE", f"must be one of {', '.join(field.choices)}")
    return text


def _date(_: Field, raw: object) -> Value:
    if isinstance(raw, datetime):
        return raw.date().isoformat()
    if isinstance(raw, date):
        return raw.isoformat()
    if not isinstance(raw, str):
        raise FieldError("INVALID_TYPE", "must be a date, YYYY-MM-DD")
    if not raw:
        return None
    try:
        return (date.fromisoformat(raw) if len(raw) == 10 else datetime.fromisoformat(raw).date()).isoformat()
    except ValueError as error:
        raise FieldError("INVALID_VALUE", "is not a date of the form YYYY-MM-DD") from error


def _money(_: Field, raw: object) -> Value:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str | Decimal):
        raise FieldError("INVALID_TYPE", "must be an amount: a number or a decimal string")
    if raw == "":
        return None
    try:
        text = str(raw).strip()
        amount = Decimal(text.replace("_", "?") if len(text) <= 400 else "NaN")  # Python alone reads 1_000 as a number
    except (InvalidOperation, ValueError) as error:
        raise FieldError("INVALID_TYPE", "must be an amount: a number or a decimal string") from error
    if not amount.is_finite():
        raise FieldError("INVALID_VALUE", "must be a finite amount")
    if abs(amount) >= MONEY_LIMIT:
        raise FieldError("INVALID_RANGE", "must be below 10^12")
    if amount != amount.quantize(Decimal("0.01")):
        raise FieldError("INVALID_VALUE", "must not have more than two decimals")
    return str(abs(amount).quantize(Decimal("0.01")) if amount == 0 else amount.quantize(Decimal("0.01")))


def _flag(_: Field, raw: object) -> Value:
    if not isinstance(raw, bool):
        raise FieldError("INVALID_TYPE", "must be true or false")
    return raw


_PARSERS = {Kind.TEXT: _text, Kind.DATE: _date, Kind.MONEY: _money, Kind.FLAG: _flag}

FORECAST, ACTUALS = "edit_forecast", "edit_actuals"

FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        Field("description", Kind.TEXT),
        Field("category", Kind.TEXT, FORECAST),
        Field("class", Kind.TEXT, FORECAST),
        Field("source", Kind.TEXT, FORECAST, "terms", ("Rental", "Purchase")),
        Field("dor", Kind.TEXT, FORECAST, None, ("BEO", "PROJECT")),
        Field("areaSilo", Kind.TEXT, FORECAST),
        Field("manufacturer", Kind.TEXT, FORECAST),
        Field("model", Kind.TEXT, FORECAST),
        Field("monthlyRate", Kind.MONEY, FORECAST, "terms"),
        Field("purchasePrice", Kind.MONEY, FORECAST, "terms"),
        Field("originalStart", Kind.DATE, None, "original"),
        Field("originalEnd", Kind.DATE, None, "original"),
        Field("forecastStart", Kind.DATE, FORECAST, "forecast"),
        Field("forecastEnd", Kind.DATE, FORECAST, "forecast"),
        Field("actualStart", Kind.DATE, ACTUALS, "actual"),
        Field("actualEnd", Kind.DATE, ACTUALS, "actual"),
        Field("isActualized", Kind.FLAG, ACTUALS, "actual"),
        Field("isDiscontinued", Kind.FLAG, FORECAST),
        Field("isFundsTransferable", Kind.FLAG, FORECAST),
        Field("hasPlan", Kind.FLAG),
        Field("hasActuals", Kind.FLAG),
        Field("contract", Kind.TEXT),
        Field("equipment", Kind.TEXT),
    )
}

MONEY_FIELDS = frozenset(name for name, field in FIELDS.items() if field.kind is Kind.MONEY)


def unit_of(name: str) -> str:
    """The group a field belongs to, or the field itself: what moves, and clashes, as one."""
    return FIELDS[name].group or name


UNITS: dict[str, tuple[str, ...]] = {
    unit: tuple(name for name in FIELDS if unit_of(name) == unit) for unit in {unit_of(name) for name in FIELDS}
}


def with_partners(names: set[str]) -> set[str]:
    """The names and every field that shares a group with one of them."""
    return {partner for name in names for partner in UNITS[unit_of(name)]}
