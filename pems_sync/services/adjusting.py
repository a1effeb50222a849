"""PEMS applied our write, and holds other values than we sent: that is no foreign change (K6), but it is told and counted."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import F

from pems_sync import events
from pems_sync.journal import UnitOfWork
from pems_sync.models import InboundState, Modification, Record, RecordVersion
from pems_sync.services.transitions import subject


def made_by_us(records: Sequence[Record]) -> dict[int, Modification]:
    """By record: the modification that made the version which is stored. Recognised by version, never by time or user."""
    versions = {record.pk: record.version for record in records}
    seen = RecordVersion.objects.filter(record_id__in=versions).exclude(modification_id=None)
    rows = seen.values_list("record_id", "version", "modification_id")
    made = {by: key for key, version, by in rows if by is not None and version == versions[key]}
    found = Modification.objects.filter(pk__in=made).select_related("author", "organization", "authorised_by")
    return {made[row.pk]: row for row in found if row.confirmed_version == versions[made[row.pk]]}


def adjust(work: UnitOfWork, row: Modification, record: Record) -> None:
    """PEMS shows the record at the version of this confirmed write. The record is locked."""
    adjusted = {name: record.fields.get(name) for name, sent in row.changes.items() if record.fields.get(name) != sent}
    if adjusted == row.adjusted:
        return
    row.adjusted = adjusted
    row.save(update_fields=["adjusted"])
    work.record(events.ModificationAdjusted(**subject(row, "PEMS"), after={"adjusted": adjusted}))
    count_adjusted(row.organization_id)


def count_adjusted(organization_id: int) -> None:
    """One more write that PEMS applied otherwise than we sent it."""
    counted = InboundState.objects.filter(organization=organization_id).update(adjusted=F("adjusted") + 1)
    if not counted:
        InboundState.objects.get_or_create(organization_id=organization_id, defaults={"adjusted": 1})
