"""How values read for people who decide: amounts with separators, dates with the name of the month."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

from pems_sync.admin.shown import HIDDEN
from pems_sync.drift import ConflictKind
from pems_sync.fields import FIELDS, MONEY_FIELDS, Kind, Value

NOTHING = "– (empty)"


def worded(name: str, value: Value, *, money: bool) -> str:
    """One value of a field. `money`: whether amounts may be seen."""
    if name in MONEY_FIELDS and not money:
        return HIDDEN
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    kind = FIELDS[name].kind if name in FIELDS else Kind.TEXT
    return {Kind.MONEY: _amount, Kind.DATE: _day}.get(kind, str)(value)


def _amount(text: str) -> str:
    try:
        return f"{Decimal(text):,.2f}"
    except InvalidOperation:
        return text


def _day(text: str) -> str:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return text
    return f"{day.day} {day:%b %Y}"


def moment(at: datetime | None) -> str:
    if at is None:
        return "at an unknown time"
    at = at.astimezone(UTC)
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


_KINDS = {
    ConflictKind.EDIT_EDIT: "edited on both sides",
    ConflictKind.DELETE_EDITED: "we delete, PEMS edited",
    ConflictKind.EDIT_DISCONTINUED: "we edit, PEMS discontinued",
    ConflictKind.EDIT_DELETED: "we edit, PEMS deleted",
    ConflictKind.OVERTAKEN: "unclear, overtaken by PEMS",
}


def kind_word(kind: str) -> str:
    return _KINDS[ConflictKind(kind)] if kind in _KINDS else kind.replace("_", " ")
