"""What a job did to each of its records, and what it takes to take that back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from uuid import UUID

from pems_sync.models import JournalEntry, Modification, Record, RecordVersion
from pems_sync.restoring import Plan, Skipped, Written, plan, wanted_to_undo


@dataclass(frozen=True)
class Item:
    """One record of the job. `rows`: what the job did to it, first to last."""

    record: Record
    rows: tuple[Modification, ...]
    plan: Plan

    @property
    def goes_on(self) -> bool:
        return bool(self.plan.changes) and not self.plan.errors


def items_of(records: Mapping[int, Record], rows: Sequence[Modification], permissions: Set[str]) -> list[Item]:
    """In the order of PFA ids."""
    untouched, written = _held_already(rows), _written(rows)
    by_record: dict[int, list[Modification]] = defaultdict(list)
    for row in rows:
        by_record[row.record_id].append(row)
    items = []
    for pk, some in by_record.items():
        wrote = [written[row.pk] for row in some if row.pk not in untouched]
        held = [row for row in some if row.pk in untouched]
        items.append(Item(records[pk], tuple(some), _plan(records[pk], wrote, held, permissions)))
    return sorted(items, key=lambda item: item.record.pfa_id)


def _written(rows: Sequence[Modification]) -> dict[UUID, Written]:
    """What each edit replaced: the values of the version it was conditional on, which PEMS may have moved to after the
    planner looked; where that was not seen, the planner's base."""
    seen = RecordVersion.objects.filter(
        record__in={row.record_id for row in rows}, version__in={row.expected_version for row in rows}
    ).order_by("pk")
    before = {(each.record_id, each.version): each.fields for each in seen}
    return {
        row.pk: Written(
            {name: before.get((row.record_id, row.expected_version), row.base).get(name) for name in row.changes},
            {**row.changes, **{name: value for name, value in row.adjusted.items() if name in row.changes}},
        )
        for row in rows
    }


def _held_already(rows: Sequence[Modification]) -> set[UUID | None]:
    """Edits that found their values in PEMS: what stands there was not written by the job."""
    entries = JournalEntry.objects.filter(
        modification_id__in=[row.pk for row in rows], kind="modification_confirmed", after__how="converged"
    )
    return set(entries.values_list("modification_id", flat=True))


def _plan(record: Record, wrote: list[Written], held: Sequence[Modification], permissions: Set[str]) -> Plan:
    wanted, skipped = wanted_to_undo(wrote, record.fields)
    if record.deleted_at is not None:
        return Plan(skipped=[Skipped(name, "PEMS no longer knows the record.") for name in wanted])
    made = plan(now=record.fields, wanted=wanted, permissions=permissions)
    theirs = "PEMS held this value already; the job did not write it."
    untouched = [Skipped(name, theirs) for row in held for name in row.changes]
    return replace(made, skipped=[*made.skipped, *skipped, *untouched])
