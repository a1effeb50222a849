"""What to do when PEMS moved since the base: a pure three-way comparison per unit (field or group).

`base` holds every changed field, its group partners and `isDiscontinued` as the planner saw them, so "every base
value still stands" is one comparison. The source of the rules is PROTOCOL.md, *What is stored with a modification*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pems_sync import validation
from pems_sync.fields import UNITS, Value, Values, unit_of, with_partners


class ConflictKind(StrEnum):
    EDIT_EDIT = "edit_edit"
    EDIT_DELETED = "edit_deleted"
    DELETE_EDITED = "delete_edited"
    EDIT_DISCONTINUED = "edit_discontinued"
    OVERTAKEN = "overtaken"


@dataclass(frozen=True)
class Converged:
    """PEMS already holds every value we wanted: done without a write."""


@dataclass(frozen=True)
class Disjoint:
    """PEMS moved elsewhere: go on, conditional on the new version."""


@dataclass(frozen=True)
class Overlap:
    """Both sides changed the same units. A person decides."""

    kind: ConflictKind
    fields: tuple[str, ...]


Drift = Converged | Disjoint | Overlap


def base_for(changes: Mapping[str, Value], stored: Mapping[str, Value]) -> Values:
    """The base values of these changes: each field with its group partners, and whether it was discontinued."""
    return {name: stored.get(name) for name in sorted(with_partners(set(changes)) | {"isDiscontinued"})}


def moved_fields(base: Mapping[str, Value], theirs: Mapping[str, Value]) -> tuple[str, ...]:
    """Base values that no longer stand."""
    return tuple(name for name, value in base.items() if theirs.get(name) != value)


def compare(
    *, base: Mapping[str, Value], changes: Mapping[str, Value], theirs: Mapping[str, Value], delete: bool
) -> Drift:
    """Base, ours and theirs of one record. Call it only when PEMS's version is beyond the expected one."""
    if all(theirs.get(name) == value for name, value in changes.items()) and _nothing_else_moved(base, changes, theirs):
        return Converged()
    if delete:
        return Overlap(ConflictKind.DELETE_EDITED, tuple(changes))
    if theirs.get("isDiscontinued") and not base.get("isDiscontinued"):
        return Overlap(ConflictKind.EDIT_DISCONTINUED, tuple(sorted({*changes, "isDiscontinued"})))
    clashing = _clashing(base, changes, theirs)
    if not clashing:
        clashing = _made_invalid(changes, theirs)
    return Overlap(ConflictKind.EDIT_EDIT, clashing) if clashing else Disjoint()


def _nothing_else_moved(base: Mapping[str, Value], changes: Mapping[str, Value], theirs: Mapping[str, Value]) -> bool:
    """Group partners we did not change still stand, so the unit as a whole is what the planner wanted."""
    partners = [name for name in base if name not in changes and name != "isDiscontinued"]
    discontinued = theirs.get("isDiscontinued") and not base.get("isDiscontinued") and "isDiscontinued" not in changes
    return not discontinued and all(theirs.get(name) == base[name] for name in partners)


def _clashing(base: Mapping[str, Value], changes: Mapping[str, Value], theirs: Mapping[str, Value]) -> tuple[str, ...]:
    clashing: list[str] = []
    for unit in dict.fromkeys(unit_of(name) for name in changes):
        names = UNITS[unit]
        seen = {name: base.get(name) for name in names}
        ours = {name: changes.get(name, seen[name]) for name in names}
        now = {name: theirs.get(name) for name in names}
        if now not in (seen, ours):
            clashing += [name for name in names if now[name] != seen[name] or name in changes]
    return tuple(clashing)


def _made_invalid(changes: Mapping[str, Value], theirs: Mapping[str, Value]) -> tuple[str, ...]:
    """Disjoint changes that together break a rule ask a person as well (K4)."""
    errors, _ = validation.split(validation.violations_of(theirs, changes), changes)
    return tuple(sorted({name for error in errors for name in error.touches}))
