"""What a proposed policy would have done to the conflicts that people resolved: replayed, nothing is written.

Each conflict is put before the same pure decisions that judge edits (`pems_sync.drift`, `pems_sync.policies`), with
the three values and the two times that were kept with it. What a person chose is what counts; a withdrawn edit was no choice
between values and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import Q

from conflicts.models import Conflict, Resolution
from pems_sync.drift import ConflictKind, Converged, Disjoint, Overlap, compare
from pems_sync.fields import MONEY_FIELDS, Value, Values
from pems_sync.models import Organization, RecordVersion
from pems_sync.policies import Policies, settle

MOST_REPLAYED = 20_000
"""The newest ones; a page of the admin has to come back while a person waits."""
MOST_ITEMS = 200
_AT_ONCE = 500


@dataclass(frozen=True)
class Item:
    """A field that the policy would have settled otherwise than a person did."""

    conflict_id: UUID
    pfa_id: str
    field: str
    person: Value
    policy: Value

    def as_wire(self, *, money: bool) -> dict[str, Any]:
        hidden = not money and self.field in MONEY_FIELDS
        values = {"person": None if hidden else self.person, "policy": None if hidden else self.policy}
        named = {"conflictId": str(self.conflict_id), "pfaId": self.pfa_id, "field": self.field}
        return {**named, **values, "masked": hidden}


@dataclass
class Simulation:
    """Counts are of conflicts, `items` of fields: the first 200 of `differing_fields`."""

    conflicts: int = 0
    settled: int = 0
    differently: int = 0
    differing_fields: int = 0
    items: list[Item] = field(default_factory=list)

    def as_wire(self, *, money: bool) -> dict[str, Any]:
        return {
            "conflicts": self.conflicts,
            "settled": self.settled,
            "alike": self.settled - self.differently,
            "differently": self.differently,
            "unchanged": self.conflicts - self.settled,
            "items": [item.as_wire(money=money) for item in self.items],
            "truncated": self.differing_fields > len(self.items),
        }


def simulate(organization: Organization, policies: Policies, *, since: datetime | None = None) -> Simulation:
    """Newest first. `since`: resolved at that time or later."""
    result = Simulation()
    for conflict, record in _resolved(organization, since):
        result.conflicts += 1
        stands = _replay(policies, conflict, record)
        if stands is not None:
            _compare(result, conflict, stands)
    return result


def _resolved(organization: Organization, since: datetime | None) -> Iterator[tuple[Conflict, Values]]:
    """Each with the whole record as PEMS showed it at the conflict's version."""
    rows = Conflict.objects.filter(organization=organization, resolved_by__isnull=False).resolved()
    rows = rows.exclude(resolution__in=["", Resolution.WITHDRAWN]).select_related("modification")
    if since is not None:
        rows = rows.filter(resolved_at__gte=since)
    newest = rows.order_by("-opened_at", "pk")[:MOST_REPLAYED].iterator(chunk_size=_AT_ONCE)
    while portion := list(islice(newest, _AT_ONCE)):
        seen = _versions(portion)
        for conflict in portion:
            yield conflict, seen.get((conflict.modification.record_id, conflict.pems_version), {})


def _versions(conflicts: Iterable[Conflict]) -> dict[tuple[int, int], Values]:
    wanted = Q(pk__in=[])
    by_version: dict[int, set[int]] = {}
    for conflict in conflicts:
        by_version.setdefault(conflict.pems_version, set()).add(conflict.modification.record_id)
    for version, record_ids in by_version.items():
        wanted |= Q(version=version, record__in=record_ids)
    rows = RecordVersion.objects.filter(wanted).order_by("pk")
    return {
        (record_id, version): fields
        for record_id, version, fields in rows.values_list("record_id", "version", "fields")
    }


def _replay(policies: Policies, conflict: Conflict, record: Mapping[str, Value]) -> Values | None:
    """The values that would have stood, or None where a person would have been asked all the same."""
    if conflict.kind != ConflictKind.EDIT_EDIT:
        return None
    base, ours, theirs = ({each["name"]: each[side] for each in conflict.fields} for side in ("base", "ours", "theirs"))
    theirs = {**record, **theirs}
    seen = {**theirs, **base}  # what is not in the conflict had not moved
    wanted = {name: value for name, value in ours.items() if value != seen[name]}
    beside = {name: value for name, value in conflict.modification.changes.items() if name not in ours}
    changes = {**beside, **wanted}
    match compare(base=seen, changes=changes, theirs=theirs, delete=False):
        case Overlap(ConflictKind.EDIT_EDIT, clashing):
            ours_at, theirs_at = conflict.modification.committed_at, conflict.theirs_at
            return settle(
                policies, base=seen, changes=changes, theirs=theirs,
                clashing=clashing, ours_at=ours_at, theirs_at=theirs_at,
            )  # fmt: skip
        case Disjoint() | Converged() if policies.merge_disjoint:
            return {name: changes.get(name, theirs[name]) for name in ours}
        case _:
            return None


def _compare(result: Simulation, conflict: Conflict, stands: Mapping[str, Value]) -> None:
    result.settled += 1
    chosen = chosen_values(conflict)
    differing = [name for name, value in stands.items() if name in chosen and chosen[name] != value]
    result.differently += bool(differing)
    result.differing_fields += len(differing)
    room = MOST_ITEMS - len(result.items)
    result.items += [
        Item(conflict.pk, conflict.pfa_id, name, chosen[name], stands[name]) for name in differing[: max(0, room)]
    ]


def chosen_values(conflict: Conflict) -> Values:
    """What stood after the person's decision."""
    if conflict.decided is not None:
        return dict(conflict.decided)
    side = "ours" if conflict.resolution == Resolution.USE_LOCAL else "theirs"
    return {each["name"]: each[side] for each in conflict.fields}
