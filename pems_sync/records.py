"""Stored records move forward, never back (I7, N4), and every version seen is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from django.utils import timezone

from pems_sync.client.base import PemsRecord
from pems_sync.fields import Values
from pems_sync.models import Record, RecordVersion


@dataclass(frozen=True)
class Moved:
    """A stored record that changed: what it was, and which fields differ now."""

    record: Record
    before: Values
    changed_fields: tuple[str, ...]
    modification_id: UUID | None


class Standing(Protocol):
    """As much of a record as tells whether a row is news."""

    @property
    def version(self) -> int: ...
    @property
    def content_hash(self) -> str: ...
    @property
    def deleted_at(self) -> datetime | None: ...
    @property
    def read_due_at(self) -> datetime | None: ...


def is_forward(record: Standing, *, version: int, hash_seen: str) -> bool:
    """Higher, or equal with other content (PROTOCOL.md, Records and inbound). A tombstone gives way only to a higher one."""
    if version == record.version and record.deleted_at is None:
        return hash_seen != record.content_hash or record.read_due_at is not None
    return version > record.version


@dataclass
class Shelf:
    """Records locked by the caller, what was seen of them in this transaction, and one write for all at the end."""

    records: dict[int, Record]
    moved: list[Moved] = field(default_factory=list)

    def see(self, record: Record, shown: PemsRecord, *, made_by: UUID | None = None) -> bool:
        """PEMS showed the record. Whether that was news."""
        if not is_forward(record, version=shown.version, hash_seen=shown.content_hash):
            return False
        self._apply(record, shown, made_by)
        return True

    def assume(
        self,
        record: Record,
        *,
        version: int,
        changes: Values,
        at: datetime | None,
        by: str,
        made_by: UUID,
        due: datetime,
    ) -> None:
        """PEMS confirmed a write without showing the record: its version and our values stand, unverified until read.
        `due`: when that read is due."""
        if version > record.version:
            shown = PemsRecord(record.pfa_id, "", version, at, by, {**record.fields, **changes})
            self._apply(record, shown, made_by)
            record.read_due_at = due

    def _apply(self, record: Record, shown: PemsRecord, made_by: UUID | None) -> None:
        before = dict(record.fields)
        changed = tuple(name for name, value in shown.fields.items() if before.get(name) != value)
        record.version, record.fields, record.content_hash = (
            shown.version,
            dict(shown.fields),
            shown.content_hash,
        )
        record.changed_at, record.changed_by, record.deleted_at = shown.updated_at, shown.updated_by, None
        record.read_due_at = None
        self.moved.append(Moved(record, before, changed, made_by))

    def save(self) -> None:
        rows = list({move.record.pk: move.record for move in self.moved}.values())
        Record.objects.all().update_each(
            [{"pk": row.pk, **{name: getattr(row, name) for name in _SAVED}} for row in rows]
        )
        remember(rows, {move.record.pk: move.modification_id for move in self.moved})


_SAVED = ("version", "fields", "content_hash", "changed_at", "changed_by", "deleted_at", "read_due_at")


def shelf_for(record_ids: Iterable[int]) -> Shelf:
    """Locks the records, by id, before anything else is locked (PROTOCOL.md, Order of locks)."""
    return Shelf({record.pk: record for record in Record.objects.locked(sorted(set(record_ids)))})


def remember(records: Sequence[Record], made_by: dict[int, UUID | None]) -> None:
    """Keep the versions in the history. Seen again, one is written once."""
    seen_at = timezone.now()
    rows = [
        {
            "record": record.pk,
            "version": record.version,
            "fields": record.fields,
            "content_hash": record.content_hash,
            "changed_at": record.changed_at,
            "changed_by": record.changed_by,
            "modification_id": made_by.get(record.pk),
            "seen_at": seen_at,
        }
        for record in records
    ]
    RecordVersion.objects.insert_each(rows, known_ones_stay=True)


def values_at(record: Record, version: int) -> Values | None:
    """The values of a version that was seen, or None."""
    if version == record.version:
        return dict(record.fields)
    row = RecordVersion.objects.filter(record=record, version=version).order_by("-pk").first()
    return dict(row.fields) if row else None
