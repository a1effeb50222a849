"""The record as a decision would leave it, and what would be refused. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conflicts.admin.wording import worded
from conflicts.merging import merge
from conflicts.models import Conflict, Resolution
from conflicts.services import needs_second
from pems_sync import validation
from pems_sync.fields import FIELDS, Value, Values
from pems_sync.models import Membership
from pems_sync.models.organization import Permission


@dataclass(frozen=True)
class Line:
    """One field: as PEMS has it, and as it would be."""

    name: str
    now: str
    then: str
    changed: bool


@dataclass(frozen=True)
class Previewed:
    resolution: str
    changed: list[Line]
    unchanged: list[Line]
    troubles: list[str]
    needs_second: bool

    @property
    def sends_nothing(self) -> bool:
        return not self.changed


def preview(conflict: Conflict, *, resolution: str, chosen: Values | None, membership: Membership) -> Previewed:
    """`chosen`: canonical values of a merge."""
    stored: Values = conflict.modification.record.fields
    values, troubles = _outcome(conflict, resolution, chosen or {})
    sent = {name: value for name, value in values.items() if stored.get(name) != value}
    barred = [name for name in FIELDS if name in sent and FIELDS[name].permission not in membership.permissions]
    lines = _lines(stored, values, money=membership.allows(Permission.VIEW_FINANCIALS))
    return Previewed(
        resolution=resolution,
        changed=[line for line in lines if line.changed],
        unchanged=[line for line in lines if not line.changed],
        troubles=[*troubles, *(f"{name} may not be edited by you." for name in barred)],
        needs_second=needs_second(conflict.modification.record, sent, membership),
    )


def _outcome(conflict: Conflict, resolution: str, chosen: Values) -> tuple[Mapping[str, Value], list[str]]:
    """The whole record afterwards, and the rules it would break."""
    edit = conflict.modification
    stored: Values = edit.record.fields
    match resolution:
        case Resolution.USE_LOCAL:
            broken, _ = validation.split(validation.violations_of(stored, edit.changes), edit.changes)
            values: Mapping[str, Value] = {**stored, **edit.changes}
        case Resolution.MERGE:
            merged = merge(
                record_fields=stored, base=edit.base, changes=edit.changes, conflict_fields=conflict.fields, chosen=chosen
            )  # fmt: skip
            values, broken = merged.values, merged.violations
        case _:
            values, broken = stored, []
    return values, [violation.message for violation in broken]


def _lines(stored: Mapping[str, Value], values: Mapping[str, Value], *, money: bool) -> list[Line]:
    def line(name: str) -> Line:
        now, then = stored.get(name), values.get(name)
        return Line(name, worded(name, now, money=money), worded(name, then, money=money), now != then)

    return [line(name) for name in FIELDS if name in values]
