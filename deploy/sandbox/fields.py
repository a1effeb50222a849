"""What PEMS accepts in a field, and the rules it checks on a whole record.

Written from the contract alone and sharing no code with `pems_sync`: a mistake made there must not be repeated here.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

Record = dict[str, Any]
"""A record under the names of the contract. Never changed in place: a new version is a new dict."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")


def clean(changes: Mapping[str, Any]) -> tuple[Record, dict[str, str]]:
    """The changes as PEMS stores them, and a sentence for each field it refuses."""
    values: Record = {}
    errors: dict[str, str] = {}
    for name, value in changes.items():
        try:
            values[name] = CODECS[name](value)
        except KeyError:
            errors[name] = "is not a field that can be changed"
        except ValueError as refusal:
            errors[name] = str(refusal)
    return values, errors


def broken_rule(record: Record, touched: Mapping[str, Any]) -> tuple[str, str] | None:
    """Message and field of the first rule broken by the touched fields; what was wrong before is left alone."""
    for name in MONEY_FIELDS:
        if name in touched and (record[name] or 0) < 0:
            return f"{name} must not be negative", name
    for start, end in DATE_PAIRS:
        if (start in touched or end in touched) and record[start] and record[end] and record[start] > record[end]:
            return f"{end} must not be before {start}", end
    return None


def adjusted(changes: Mapping[str, Any]) -> Record:
    """What PEMS makes of a write that it does not take literally: the first value it can alter, altered."""
    for name, value in changes.items():
        if name in MONEY_FIELDS and value is not None:
            return {name: math.floor(value / 10) * 10 + 10.0}
        if name in DATE_FIELDS and value is not None:
            step = timedelta(days=1 if name.endswith("End") else -1)
            return {name: (date.fromisoformat(value) + step).isoformat()}
        if name in TEXT_FIELDS and value:
            return {name: value[:490] + " (PEMS)"}
    return {"equipment": "assigned by PEMS"}


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("must be text or null")
    if value is not None and len(value) > 500:
        raise ValueError("must not be longer than 500 characters")
    return value


def _money(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number or null")
    if abs(value) >= 10**12 or not math.isfinite(value):
        raise ValueError("is out of range")
    return round(float(value), 2)


def _day(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be a date (YYYY-MM-DD) or null")
    try:
        if _DAY.match(value):
            return date.fromisoformat(value).isoformat()
        if _MOMENT.match(value):
            return datetime.fromisoformat(value).date().isoformat()
    except ValueError:
        pass
    raise ValueError("is not a date (YYYY-MM-DD)")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def codec(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value

    return codec


TEXT_FIELDS = ("description", "category", "class", "areaSilo", "manufacturer", "model", "contract", "equipment")
MONEY_FIELDS = ("monthlyRate", "purchasePrice")
DATE_PAIRS = (("originalStart", "originalEnd"), ("forecastStart", "forecastEnd"), ("actualStart", "actualEnd"))
DATE_FIELDS = tuple(name for pair in DATE_PAIRS for name in pair)
FLAG_FIELDS = ("isActualized", "isDiscontinued", "isFundsTransferable", "hasPlan", "hasActuals")
CODECS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(TEXT_FIELDS, _text),
    **dict.fromkeys(MONEY_FIELDS, _money),
    **dict.fromkeys(DATE_FIELDS, _day),
    **dict.fromkeys(FLAG_FIELDS, _flag),
    "source": _one_of("Rental", "Purchase"),
    "dor": _one_of("BEO", "PROJECT"),
}
