"""Whether a conflict still shows what PEMS holds: locked, and brought up to the stored record (K5)."""

from __future__ import annotations

from dataclasses import dataclass

from conflicts.errors import AlreadyResolvedError
from conflicts.models import Conflict
from conflicts.sides import pattern_of, side_by_side
from pems_sync.drift import ConflictKind, Side, moved_fields, side_of
from pems_sync.fields import UNITS, Values, unit_of
from pems_sync.journal import deadlock_retried, unit_of_work
from pems_sync.models import Modification, Record
from pems_sync.records import shelf_for
from pems_sync.services.moves import lock_lanes

SHOWN = ["kind", "fields", "field_names", "pattern", "pems_version", "theirs_at"]


@dataclass(frozen=True)
class Standing:
    """An open conflict with what it is about, all locked."""

    record: Record
    row: Modification
    conflict: Conflict


def locked(conflict: Conflict) -> Standing:
    """Record, then lane, then the conflict. Raises AlreadyResolvedError: of two people at once, for the second."""
    record_id = conflict.modification.record_id
    record = shelf_for([record_id]).records[record_id]
    rows = {row.pk: row for row in lock_lanes([record_id])}
    fresh = Conflict.objects.select_for_update().get(pk=conflict.pk)
    if fresh.resolved_at is not None or fresh.modification_id not in rows:
        raise AlreadyResolvedError
    row = fresh.modification = rows[fresh.modification_id]
    fresh.organization = row.organization
    return Standing(record, row, fresh)


@deadlock_retried
def refreshed(conflict: Conflict) -> Conflict:
    """The conflict as PEMS stands now, saved. One that is resolved is returned as it is."""
    with unit_of_work():
        try:
            standing = locked(conflict)
        except AlreadyResolvedError:
            return conflict
        bring_up_to_date(standing)
    return standing.conflict


def bring_up_to_date(standing: Standing) -> bool:
    """Show the stored record where PEMS moved. Whether values that somebody decides on are others now."""
    record, row, conflict = standing.record, standing.row, standing.conflict
    if is_current(conflict, record):
        return False
    before = {field["name"]: field["theirs"] for field in conflict.fields}
    theirs: Values = {} if record.deleted_at else record.fields
    kind = _kind(conflict, row, record)
    ours = {**row.base, **row.changes}
    conflict.fields = [side_by_side(name, row.base, ours, theirs) for name in _names(list(before), row, theirs)]
    conflict.field_names = [field["name"] for field in conflict.fields]
    other_kind, conflict.kind = kind != conflict.kind, kind
    conflict.pattern = pattern_of(kind, conflict.fields)
    conflict.pems_version, conflict.theirs_at = record.version, record.changed_at
    conflict.save(update_fields=SHOWN)
    return other_kind or any(before.get(field["name"], object()) != field["theirs"] for field in conflict.fields)


def is_current(conflict: Conflict, record: Record) -> bool:
    if record.deleted_at is not None:
        return conflict.kind == ConflictKind.EDIT_DELETED
    return record.version <= conflict.pems_version and conflict.kind != ConflictKind.EDIT_DELETED


def _kind(conflict: Conflict, row: Modification, record: Record) -> str:
    """A record that went, or came back, makes it another question; else it stays what it was."""
    if record.deleted_at is not None:
        return ConflictKind.EDIT_DELETED
    if row.is_delete:
        return ConflictKind.DELETE_EDITED
    if record.fields.get("isDiscontinued") and not row.base.get("isDiscontinued"):
        return ConflictKind.EDIT_DISCONTINUED
    overtaken = conflict.kind == ConflictKind.OVERTAKEN
    return ConflictKind.OVERTAKEN if overtaken else ConflictKind.EDIT_EDIT


def _names(shown: list[str], row: Modification, theirs: Values) -> list[str]:
    """Those in conflict already, and of every group in which a base value fell since, what either side changed. Where PEMS
    made the change we want, nothing is asked (K3)."""
    if not theirs:
        return list(dict.fromkeys([*shown, *row.changes]))
    fell = [name for unit in dict.fromkeys(map(unit_of, row.base)) for name in _fallen(unit, row, theirs)]
    return list(dict.fromkeys([*shown, *fell]))


def _fallen(unit: str, row: Modification, theirs: Values) -> list[str]:
    names = [name for name in UNITS[unit] if name in row.base]
    ours = {**row.base, **row.changes}
    side = side_of(*([values.get(name) for name in names] for values in (row.base, ours, theirs)))
    moved = set(moved_fields(row.base, theirs))
    return [name for name in names if name in moved | row.changes.keys()] if side in _ASKED else []


_ASKED = (Side.CLASH, Side.THEIRS)
