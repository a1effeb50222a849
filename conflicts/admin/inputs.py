"""Inputs for a value of one's own, typed by the kind of the field, and what was typed as a canonical value."""

from __future__ import annotations

import re
from decimal import Decimal

from django import forms

from pems_sync.fields import FIELDS, TEXT_LIMIT, FieldError, Kind, Value

_YES, _NO = "yes", "no"
_GROUPED = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d*)?")


def input_for(name: str, initial: str) -> forms.CharField:
    """Whatever is typed comes through as text; `parsed` judges it with the words of the API."""
    field = FIELDS[name]
    widget: forms.Widget
    if field.kind is Kind.FLAG:
        widget = forms.Select(choices=[(_YES, "yes"), (_NO, "no")])
    elif field.choices:
        widget = forms.Select(choices=[("", "– (empty)"), *((each, each) for each in field.choices)])
    elif field.kind is Kind.DATE:
        widget = forms.DateInput(attrs={"type": "date"})
    elif field.kind is Kind.MONEY:
        widget = forms.TextInput(attrs={"inputmode": "decimal", "size": 18})
    else:
        widget = forms.TextInput(attrs={"maxlength": TEXT_LIMIT, "size": 40})
    return forms.CharField(label=name, required=False, widget=widget, initial=initial, strip=True)


def shown_in_input(name: str, value: Value) -> str:
    if isinstance(value, bool):
        return _YES if value else _NO
    if value is not None and FIELDS[name].kind is Kind.MONEY:
        return f"{Decimal(value):,.2f}"
    return value or ""


def parsed(name: str, text: str) -> Value:
    """Raises FieldError. Thousands may be separated by commas; a comma elsewhere is refused, not guessed at."""
    field = FIELDS[name]
    if field.kind is Kind.FLAG:
        if text not in (_YES, _NO):
            raise FieldError("INVALID_TYPE", "must be yes or no")
        return text == _YES
    if field.kind is Kind.MONEY:
        text = text.replace(",", "") if _GROUPED.fullmatch(text) else text
    return field.parse(text) if text else None
