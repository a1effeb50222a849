"""What may set a record here and in PEMS apart, and how each is told from the others. Pure: values in, verdict out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pems_sync.client.base import BrokenRow, Missing, PemsRecord
from pems_sync.fields import Value


class Kind(StrEnum):
    MISSED_INBOUND = "missed_inbound"
    UNDER_WAY = "under_way"
    LOST_REPLY = "lost_reply"
    MAPPING = "mapping"
    MISSING_HERE = "missing_here"
    MISSING_THERE = "missing_there"


EXPLAINED = frozenset({Kind.UNDER_WAY, Kind.LOST_REPLY})
"""What the machine settles by itself."""

Shown = PemsRecord | Missing | BrokenRow


@dataclass(frozen=True)
class Wanted:
    """An open modification, as far as it may explain a difference."""

    under_way: bool
    changes: Mapping[str, Value]


@dataclass(frozen=True)
class Stored:
    """How a record stands here."""

    version: int
    content_hash: str
    deleted: bool = False
    unverified: bool = False


@dataclass(frozen=True)
class Difference:
    pfa_id: str
    kind: Kind
    detail: str
    repaired: bool = False


@dataclass
class Report:
    """`compared` counts the rows PEMS showed."""

    compared: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def unexplained(self) -> list[Difference]:
        return [each for each in self.differences if each.kind not in EXPLAINED and not each.repaired]

    def by_kind(self) -> dict[str, int]:
        counted = Counter(each.kind for each in self.differences)
        return {kind.value: counted[kind] for kind in Kind}


def judge(
    stored: Stored | None, shown: Shown, wanted: Sequence[Wanted], *, began_at: datetime | None
) -> tuple[Kind, str] | None:
    """What sets the two apart and why, or None where nothing does. `began_at`: PEMS's time when the look began."""
    here = stored is not None and not stored.deleted
    if isinstance(shown, BrokenRow):
        return Kind.MAPPING, f"PEMS shows a row that cannot be read: {shown.message}"
    if isinstance(shown, Missing):
        return (Kind.MISSING_THERE, "PEMS does not know it") if here else None
    if stored is None:
        return _lately(shown, began_at) or (Kind.MISSING_HERE, f"PEMS shows version {shown.version}")
    if stored.deleted:
        return _lately(shown, began_at) or (Kind.MISSING_HERE, f"given up here, PEMS shows version {shown.version}")
    if (stored.version, stored.content_hash) == (shown.version, shown.content_hash):
        return None
    return _moved(stored, shown, wanted) or _lately(shown, began_at) or _left_behind(stored, shown)


def _moved(stored: Stored, shown: PemsRecord, wanted: Sequence[Wanted]) -> tuple[Kind, str] | None:
    """An edit of ours that is open may have made the difference."""
    if shown.version <= stored.version:
        return None
    for each in wanted:
        if all(shown.fields.get(name) == value for name, value in each.changes.items()):
            return Kind.LOST_REPLY, f"PEMS shows our values at version {shown.version}, not confirmed here yet"
    if any(each.under_way for each in wanted):
        return Kind.UNDER_WAY, "an edit of this record is under way"
    return None


def _lately(shown: PemsRecord, began_at: datetime | None) -> tuple[Kind, str] | None:
    if began_at is None or shown.updated_at is None or shown.updated_at < began_at:
        return None
    return Kind.UNDER_WAY, f"changed in PEMS while we looked, to version {shown.version}"


def _left_behind(stored: Stored, shown: PemsRecord) -> tuple[Kind, str]:
    if shown.version == stored.version and not stored.unverified:
        return Kind.MAPPING, f"version {shown.version} on both sides, with other content"
    return Kind.MISSED_INBOUND, f"version {stored.version} here, {shown.version} in PEMS"
