"""What to do when PEMS moved since the base: a pure three-way comparison per unit (field or group).

`side_of` says of one unit whose values stand, and does not care which side is which; `compare` reads one edit against
PEMS with it. `base` holds every changed field, its group partners and `isDiscontinued` as the planner saw them, so "every base
value still stands" is one comparison. The source of the rules is PROTOCOL.md, *What is stored with a modification*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pems_sync import validation
from pems_sync.fields import FIELDS, UNITS, Value, Values, unit_of, with_partners


class ConflictKind(StrEnum):
    EDIT_EDIT = "edit_edit"
    EDIT_DELETED = "edit_deleted"
    DELETE_EDITED = "delete_edited"
    EDIT_DISCONTINUED = "edit_discontinued"
    OVERTAKEN = "overtaken"


class Side(StrEnum):
    """Whose values of a unit stand. Seen from the other side, OURS is THEIRS and the rest is the same."""

    BASE = "base"
    """Nobody changed it."""
    CONVERGED = "converged"
    """Both made the same change (K3)."""
    OURS = "ours"
    THEIRS = "theirs"
    CLASH = "clash"
    """Both changed it, to different values."""


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


def side_of(seen: Sequence[Value], ours: Sequence[Value], theirs: Sequence[Value]) -> Side:
    """Of one unit, its values in the same order each time."""
    if ours == theirs:
        return Side.BASE if ours == seen else Side.CONVERGED
    if theirs == seen:
        return Side.OURS
    return Side.THEIRS if ours == seen else Side.CLASH


def sides(base: Mapping[str, Value], ours: Mapping[str, Value], theirs: Mapping[str, Value]) -> dict[str, Side]:
    """Of every unit of a whole record."""
    return {
        unit: side_of(*([values.get(name) for name in names] for values in (base, ours, theirs)))
        for unit, names in UNITS.items()
    }


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
    """The changed fields, on either side, of each unit of ours that PEMS moved. A value we set on purpose is a wish
    even where it is the one we started from: PEMS moving away from it is a clash as well."""
    clashing: list[str] = []
    for unit in dict.fromkeys(_UNIT_OF[name] for name in changes):
        names = UNITS[unit]
        seen = [base.get(name) for name in names]
        now = [theirs.get(name) for name in names]
        ours = [changes.get(name, value) for name, value in zip(names, seen, strict=True)]
        if side_of(seen, ours, now) in (Side.CLASH, Side.THEIRS):
            clashing += [name for name in names if theirs.get(name) != base.get(name) or name in changes]
    return tuple(clashing)


_UNIT_OF = {name: unit_of(name) for name in FIELDS}


def _made_invalid(changes: Mapping[str, Value], theirs: Mapping[str, Value]) -> tuple[str, ...]:
    """Disjoint changes that together break a rule ask a person as well (K4)."""
    errors, _ = validation.split(validation.violations_of(theirs, changes), changes)
    return tuple(sorted({name for error in errors for name in error.touches}))
