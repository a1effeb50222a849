"""The history of a record: every version that was seen, who made it and why, and what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from django.db.models import Q, QuerySet

from pems_sync.fields import FIELDS, Value
from pems_sync.models import Modification, Record, RecordVersion
from pems_sync.models.job import JobKind
from pems_sync.states import State

NEWEST_FIRST = ("-version", "-id")


class Source(StrEnum):
    PLANNER = "planner"
    PEMS = "PEMS"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Change:
    """One field between two versions seen one after the other."""

    field: str
    before: Value
    after: Value


@dataclass(frozen=True)
class Seen:
    """One version. `edit`: the modification that made it, where it was ours. The first one seen changes nothing."""

    version: RecordVersion
    edit: Modification | None
    changes: tuple[Change, ...]
    first: bool

    @property
    def source(self) -> Source:
        if self.edit is None:
            return Source.PEMS
        went_back = self.edit.job is not None and self.edit.job.kind in (JobKind.ROLLBACK, JobKind.UNDO)
        return Source.ROLLBACK if went_back else Source.PLANNER

    @property
    def author(self) -> str:
        return self.edit.author.username if self.edit else self.version.changed_by

    @property
    def reason(self) -> str:
        return self.edit.reason if self.edit else ""


def versions_of(record: Record) -> QuerySet[RecordVersion]:
    return RecordVersion.objects.filter(record=record)


def tell(record: Record, versions: Sequence[RecordVersion]) -> list[Seen]:
    """The story of some versions, newest first without gaps. Two queries, however many they are."""
    edits = _edits(record, versions)
    older = _before(record, versions[-1]) if versions else None
    chain = [*versions, older]
    return [
        Seen(each, _edit_of(each, edits), _changes(previous, each), first=previous is None)
        for each, previous in pairwise(chain)
        if each is not None
    ]


def _before(record: Record, version: RecordVersion) -> RecordVersion | None:
    earlier = Q(version__lt=version.version) | Q(version=version.version, pk__lt=version.pk)
    return versions_of(record).filter(earlier).order_by(*NEWEST_FIRST).first()


def _edits(record: Record, versions: Sequence[RecordVersion]) -> list[Modification]:
    known = Q(pk__in=[each.modification_id for each in versions if each.modification_id])
    unsaid = Q(state=State.CONFIRMED, confirmed_version__in=[each.version for each in versions])
    rows = Modification.objects.filter(known | unsaid, record=record)
    return list(rows.select_related("author", "authorised_by", "job"))


def _edit_of(version: RecordVersion, edits: Sequence[Modification]) -> Modification | None:
    """Named by the version. Else, when inbound saw our write before its answer was settled, the one confirmed as this
    version whose sender PEMS names."""
    for edit in edits:
        if edit.pk == version.modification_id:
            return edit
    for edit in edits:
        if edit.confirmed_version == version.version and edit.authorised_by.username == version.changed_by:
            return edit
    return None


def _changes(before: RecordVersion | None, after: RecordVersion) -> tuple[Change, ...]:
    if before is None:
        return ()
    then, now = before.fields, after.fields
    return tuple(Change(name, then.get(name), now.get(name)) for name in FIELDS if then.get(name) != now.get(name))
