"""How values look in the admin: wire words, times, links, tables of values. Money only for those who may see it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from pems_sync.api.presenting import shown_document
from pems_sync.fields import FIELDS, MONEY_FIELDS
from pems_sync.models import Attempt, AttemptOutcome

HIDDEN = "hidden"
"""Stands where an amount would be, for members without `view_financials`."""


def tag(word: str) -> SafeString:
    """A status word with its colour."""
    return format_html('<span class="status status-{}">{}</span>', word, word)


def when(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else "–"


def detail_link(model: str, key: object, text: object) -> SafeString:
    """`model` as in addresses: app_model."""
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{model}_change", args=[key]), text)


def list_link(model: str, query: Mapping[str, str], text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{model}_changelist", query=query), text)


def drawn(template: str, **context: Any) -> SafeString:
    return render_to_string(f"admin/pems_sync/{template}.html", context)


def names_of(changes: Mapping[str, Any]) -> str:
    return ", ".join(sorted(changes, key=_place))


def side_by_side(row: Any, *columns: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """A row per field, in the order of the field table: its value in each column."""
    names = sorted({name for column in columns for name in column}, key=_place)
    return [(name, [_cell(row, name, column) for column in columns]) for name in names]


def _cell(row: Any, name: str, column: Mapping[str, Any]) -> str:
    if name not in column:
        return "·"
    if name in MONEY_FIELDS and not sees_money(row):
        return HIDDEN
    value = column[name]
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _place(name: str) -> tuple[int, str]:
    return (list(FIELDS).index(name) if name in FIELDS else len(FIELDS), name)


def sees_money(row: Any) -> bool:
    """Whether the amounts of this row may be shown, as noted by Scope."""
    return bool(getattr(row, "money_shown", False))


def told(row: Any, text: str, *, about: str = "") -> str:
    """A sentence of PEMS or of the machine, hidden where it may repeat an amount. `about`: the field it is known to
    concern."""
    if about in MONEY_FIELDS and not sees_money(row):
        return HIDDEN
    return str(shown_document(text, money=sees_money(row)))


def document(row: Any, value: Any) -> SafeString | str:
    """Stored JSON. Hidden amounts are null in it, which is said, for elsewhere null means cleared."""
    if value in (None, {}, []):
        return "–"
    seen = shown_document(value, money=sees_money(row))
    return drawn("document", text=json.dumps(seen, indent=2, ensure_ascii=False), hidden=seen != value)


def attempts(row: Any, ledger: Iterable[Attempt]) -> SafeString:
    """Each try, what was sent and all that came of it. `row` says whether amounts may be seen."""
    return drawn("attempts", attempts=[_attempt(row, each) for each in ledger])


def _attempt(row: Any, attempt: Attempt) -> dict[str, Any]:
    outcomes = sorted(attempt.outcomes.all(), key=lambda each: (each.at, each.pk))
    return {
        "ledger": attempt,
        "started": when(attempt.started_at),
        "request": document(row, attempt.request),
        "outcomes": [_outcome(row, each) for each in outcomes],
    }


def _outcome(row: Any, outcome: AttemptOutcome) -> dict[str, Any]:
    return {
        "ledger": outcome,
        "at": when(outcome.at),
        "detail": told(row, outcome.detail),
        "response": document(row, outcome.response) if outcome.response else "",
    }
