"""A conflict as it is laid out for people: per field the three values, and who changed what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from conflicts.admin.wording import moment, worded
from conflicts.models import Conflict
from pems_sync.admin.shown import sees_money
from pems_sync.fields import FIELDS, UNITS, unit_of
from pems_sync.models import RecordVersion


@dataclass(frozen=True)
class Row:
    """One field. The marks say in words what differs; the icon beside them is only for the eye."""

    name: str
    group: str
    base: str
    ours: str
    theirs: str
    differs: bool
    mark: str


@dataclass
class Unit:
    """What is decided as one: a field, or a group such as start and end. `fields` as stored in the conflict."""

    name: str
    fields: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_group(self) -> bool:
        return len(UNITS.get(self.name, ())) > 1

    @property
    def names(self) -> list[str]:
        return [each["name"] for each in self.fields]

    @property
    def title(self) -> str:
        return f"{self.name}: {', '.join(self.names)}" if self.is_group else self.name


def units(conflict: Conflict) -> list[Unit]:
    """In the order of the field table."""
    found: dict[str, Unit] = {}
    for each in in_order(conflict.fields):
        name = unit_of(each["name"])
        found.setdefault(name, Unit(name)).fields.append(each)
    return list(found.values())


def in_order(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    places = {name: place for place, name in enumerate(FIELDS)}
    return sorted((each for each in fields if each["name"] in places), key=lambda each: places[each["name"]])


def rows(conflict: Conflict, *, money: bool) -> list[Row]:
    return [_row(each, money=money) for each in in_order(conflict.fields)]


def _row(each: dict[str, Any], *, money: bool) -> Row:
    base, ours, theirs = (each["base"], each["ours"], each["theirs"])
    texts = {side: worded(each["name"], each[side], money=money) for side in ("base", "ours", "theirs")}
    return Row(each["name"], each["group"] or "", **texts, differs=ours != theirs, mark=_mark(base, ours, theirs))


def _mark(base: object, ours: object, theirs: object) -> str:
    match (ours == theirs, ours != base, theirs != base):
        case (True, _, _):
            return "same on both sides"
        case (False, True, True):
            return "both changed"
        case (False, True, False):
            return "only we changed"
        case _:
            return "only PEMS changed"


def pems_change(conflict: Conflict) -> list[str]:
    """What PEMS changed, in words: what conflicts of one pattern share."""
    money = sees_money(conflict)

    def told(each: dict[str, Any]) -> str:
        base, theirs = (worded(each["name"], each[side], money=money) for side in ("base", "theirs"))
        return f"{each['name']} {base} → {theirs}"

    return [told(each) for each in in_order(conflict.fields)]


@dataclass(frozen=True)
class Side:
    """Who changed, when, and why."""

    who: str
    when: str
    why: str = ""


def our_side(conflict: Conflict) -> Side:
    edit = conflict.modification
    return Side(edit.author.get_username(), moment(edit.committed_at or edit.saved_at), edit.reason)


def their_side(conflict: Conflict) -> Side:
    """Of the version that is shown, as far as it was seen; PEMS gives no reasons."""
    record = conflict.modification.record
    if record.version == conflict.pems_version:
        who, at = record.changed_by, record.changed_at
    else:
        seen = RecordVersion.objects.filter(record=record, version=conflict.pems_version).order_by("-pk").first()
        who, at = (seen.changed_by, seen.changed_at) if seen else ("", None)
    return Side(who or "somebody in PEMS", moment(at or conflict.theirs_at))
