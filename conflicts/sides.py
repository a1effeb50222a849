"""The two sides of a conflict, field by field, and the pattern by which conflicts are alike. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.crypto import salted_hmac

from pems_sync.drift import ConflictKind
from pems_sync.fields import FIELDS, MONEY_FIELDS, Value

_LONGEST_VALUE, _LONGEST_PATTERN = 40, 300


def side_by_side(name: str, base: Any, ours: Any, theirs: Any) -> dict[str, Any]:
    """The three values of one field, as stored and shown."""
    return {
        "name": name,
        "base": base.get(name),
        "ours": ours.get(name),
        "theirs": theirs.get(name),
        "group": FIELDS[name].group,
    }


def pattern_of(kind: str, fields: Sequence[Mapping[str, Any]]) -> str:
    """The same for conflicts in which PEMS made the same change: `forecastEnd 2026-06-30 → 2026-07-31`. Amounts are told
    apart and not shown: whoever may not see them reads it as well."""
    parts = [f"{field['name']} {_shown(field, 'base')} → {_shown(field, 'theirs')}" for field in fields]
    text = "; ".join(sorted(parts))
    if kind != ConflictKind.EDIT_EDIT:
        text = f"{kind}: {text}"
    return text if len(text) <= _LONGEST_PATTERN else f"{text[: _LONGEST_PATTERN - 10]}… {_stamp(text)}"


def _shown(field: Mapping[str, Any], side: str) -> str:
    value: Value = field[side]
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if field["name"] in MONEY_FIELDS:
        return f"#{_stamp(value)}"
    return value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 10]}… {_stamp(value)}"


def _stamp(text: str) -> str:
    """Keyed, so that it cannot be turned back by trying amounts."""
    return salted_hmac("conflicts.pattern", text).hexdigest()[:8]
