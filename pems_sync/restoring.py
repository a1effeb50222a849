"""What it takes to bring a record back to earlier values: what would be written, what cannot be, what would break. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from pems_sync import validation
from pems_sync.fields import FIELDS, Kind, Value, Values
from pems_sync.validation import Violation


@dataclass(frozen=True)
class Skipped:
    """A field that stays as it is, and why."""

    field: str
    reason: str


@dataclass
class Plan:
    """`before`: the values that would be replaced, by the names of `changes`. With errors nothing can be written."""

    before: Values = field(default_factory=dict)
    changes: Values = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    errors: list[Violation] = field(default_factory=list)


def plan(*, now: Mapping[str, Value], wanted: Mapping[str, Value], permissions: Set[str]) -> Plan:
    """`now`: the record as PEMS holds it; `wanted`: earlier values of some or all of its fields."""
    made = Plan()
    raw: dict[str, object] = {}
    for name in FIELDS:
        if name in wanted and wanted[name] != now.get(name):
            reason = _why_not(name, wanted[name], permissions)
            if reason:
                made.skipped.append(Skipped(name, reason))
            else:
                raw[name] = wanted[name]
    made.changes, broken = validation.parse_changes(raw, permissions=frozenset(permissions))
    made.before = {name: now.get(name) for name in made.changes}
    rules = validation.violations_of(now, made.changes)
    made.errors = broken + validation.split(rules, made.changes)[0]
    return made


def _why_not(name: str, value: Value, permissions: Set[str]) -> str:
    """Why a field cannot be brought back by this person; empty where it can."""
    permission = FIELDS[name].permission
    if permission is None:
        return "It may be edited in PEMS only."
    if permission not in permissions:
        return f"You may not edit it: that needs the permission '{permission}'."
    if value is None and FIELDS[name].kind is Kind.FLAG:
        return "It was not known then, and cannot be unset."
    return ""


@dataclass(frozen=True)
class Written:
    """What one edit did to a record: the values before it, and those it left."""

    before: Mapping[str, Value]
    after: Mapping[str, Value]


def wanted_to_undo(written: list[Written], now: Mapping[str, Value]) -> tuple[Values, list[Skipped]]:
    """The values before these edits of one record, first to last, wherever PEMS still shows what they left."""
    before: Values = {}
    after: Values = {}
    for each in written:
        before = {**each.before, **before}
        after |= each.after
    wanted: Values = {}
    skipped: list[Skipped] = []
    for name, value in after.items():
        if now.get(name) == value:
            wanted[name] = before[name]
        elif now.get(name) != before[name]:
            skipped.append(Skipped(name, "It was changed since, and stays as it is now."))
    return wanted, skipped
