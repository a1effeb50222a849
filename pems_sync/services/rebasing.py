"""A stored record moved: what that means for the open modifications of it (PROTOCOL.md, *What is stored* and *Lanes*).

Runs in the transaction that moved the record. Records with a head under way are left alone until it settles: what
moved may be that head's own write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import assert_never

from pems_sync import events
from pems_sync.drift import ConflictKind, Converged, Disjoint, Overlap, compare, moved_fields
from pems_sync.fields import FIELDS
from pems_sync.models import Modification, Record
from pems_sync.records import values_at
from pems_sync.services.moves import Moves
from pems_sync.services.policing import settle_by_policy
from pems_sync.services.transitions import alone, confirm, conflict, subject
from pems_sync.states import IN_FLIGHT, State


def is_under_way(row: Modification) -> bool:
    """In flight, or queued again while its first request may still land. What is exposed behind a head was restored from a
    backup, and is looked at when its turn comes."""
    return row.state in IN_FLIGHT or (row.state == State.QUEUED and row.exposed and row.is_head)


def rebase_open(
    moves: Moves,
    records: Iterable[Record],
    rows: Sequence[Modification],
    *,
    actor: str,
    confirmed: Mapping[int, Modification] | None = None,
) -> None:
    """Look at every draft and queued row of these records. `rows`: all open rows of them, locked. `confirmed`: by
    record, the head this transaction confirms; its author's other rows take its values as their base."""
    by_record = {record.pk: record for record in records}
    busy = {row.record_id for row in rows if is_under_way(row)}
    for row in sorted(rows, key=lambda row: (row.queued_at or moves.work.now, str(row.pk))):
        if row.record_id in by_record and row.record_id not in busy:
            _rebase(moves, row, by_record[row.record_id], (confirmed or {}).get(row.record_id), actor)


def _rebase(moves: Moves, row: Modification, record: Record, head: Modification | None, actor: str) -> None:
    if row.state not in (State.DRAFT, State.QUEUED):
        return
    if row.exposed:
        if head is None or not _came_before(head, row, record):
            return  # it goes as it was, at its version, or PEMS shows that it has been there
        row.exposed = False
        moves.keep(row)
    if head is not None and _made_after(head, row):
        _take_own_values(moves, row, head, record)
        if row.state == State.QUEUED and not row.exposed and _is_there(row, record):
            confirm(moves, row, version=record.version, actor=actor, how="converged")
            return
    if row.state == State.DRAFT:
        _warn(moves, row, record, actor)
    else:
        advance_alone(moves, row, record, actor=actor)


def _came_before(head: Modification, row: Modification, record: Record) -> bool:
    """The one version that PEMS made since both were restored is the head's own write: the row behind it was never sent."""
    is_next = record.version == head.confirmed_version == head.expected_version + 1
    return is_next and row.expected_version == head.expected_version


def _made_after(head: Modification, row: Modification) -> bool:
    """By the same author, who had committed the head already. A dead letter sent again later is older than that."""
    return head.author_id == row.author_id and head.committed_at is not None and row.saved_at > head.committed_at


def _is_there(row: Modification, record: Record) -> bool:
    """The head brought all of it: the same was asked for twice, as by a person whose first answer was lost."""
    return record.deleted_at is None and all(record.fields.get(name) == value for name, value in row.changes.items())


def _take_own_values(moves: Moves, row: Modification, head: Modification, record: Record) -> None:
    """What this author just got confirmed is what they saw when they made their next change."""
    own = {**head.changes, **head.adjusted}
    row.base = row.base | {name: value for name, value in own.items() if name in row.base}
    if not moved_fields(row.base, record.fields) and record.version == head.confirmed_version:
        row.base_version = row.expected_version = record.version
    moves.keep(row)


def _warn(moves: Moves, row: Modification, record: Record, actor: str) -> None:
    """A draft is never stopped: its author is told while they still edit."""
    moved = [*moved_fields(row.base, record.fields), *(["isDiscontinued"] if record.deleted_at else [])]
    if moved == row.at_risk and (moved or row.expected_version == record.version):
        return
    newly = bool(set(moved) - set(row.at_risk))
    row.at_risk = moved
    if not moved:
        row.expected_version = record.version
    moves.keep(row)
    if newly:
        moves.work.record(events.DraftAtRisk(**subject(row, actor), changed_fields=tuple(moved)))


def advance_alone(moves: Moves, row: Modification, record: Record, *, actor: str) -> None:
    """As `advance`; when that raises, this row alone goes to DEAD(internal)."""
    if not _still_stands(row, record):
        with alone(moves, row):
            advance(moves, row, record, actor=actor)


def _still_stands(row: Modification, record: Record) -> bool:
    """PEMS is not beyond the version of the next write, and shows every value the planner started from. A record
    confirmed without being shown may turn out to hold others at the same version."""
    seen = record.version < row.expected_version or not moved_fields(row.base, record.fields)
    return record.deleted_at is None and record.version <= row.expected_version and seen


def advance(moves: Moves, row: Modification, record: Record, *, actor: str) -> None:
    """Bring a queued, sending or unknown row face to face with the stored record: confirm, go on, or ask a person."""
    if record.deleted_at is not None:
        conflict(
            moves,
            row,
            kind=ConflictKind.EDIT_DELETED,
            fields=tuple(row.changes),
            theirs={},
            version=record.version,
            actor=actor,
        )
        return
    if _still_stands(row, record):
        return
    verdict = compare(base=row.base, changes=row.changes, theirs=record.fields, delete=row.is_delete)
    match verdict:
        case Converged():
            confirm(moves, row, version=record.version, actor=actor, how="converged")
        case Disjoint() if row.organization.merge_disjoint:
            _go_on(moves, row, record, actor)
        case Disjoint():
            _ask(moves, row, record, ConflictKind.EDIT_EDIT, _moved_elsewhere(row, record), actor)
        case Overlap(kind, fields):
            if kind is not ConflictKind.EDIT_EDIT or not settle_by_policy(moves, row, record, fields):
                _ask(moves, row, record, kind, fields, actor)
        case _:
            assert_never(verdict)


def _ask(
    moves: Moves, row: Modification, record: Record, kind: ConflictKind, fields: tuple[str, ...], actor: str
) -> None:
    theirs, at = dict(record.fields), record.changed_at
    conflict(moves, row, kind=kind, fields=fields, theirs=theirs, version=record.version, actor=actor, theirs_at=at)


def _moved_elsewhere(row: Modification, record: Record) -> tuple[str, ...]:
    """Disjoint changes of an organization that wants to be asked: ours, and what PEMS moved of what people edit. The
    base grows by the values PEMS showed of those when we last looked, so that all three can be shown (I8)."""
    seen = values_at(record, row.expected_version) or {}
    moved = {name: value for name, value in seen.items() if FIELDS[name].permission and record.fields[name] != value}
    row.base = moved | row.base
    return tuple(dict.fromkeys([*row.changes, *moved]))


def _go_on(moves: Moves, row: Modification, record: Record, actor: str) -> None:
    row.expected_version, row.auto_merged = record.version, True
    moves.keep(row)
    after = {"expectedVersion": record.version}
    moves.work.record(events.ModificationRebased(**subject(row, actor), after=after))
