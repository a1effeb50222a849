"""Rows on their way from one state to another, in one transaction: moved one by one, saved together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pems_sync import dispatch, lanes
from pems_sync.journal import UnitOfWork
from pems_sync.models import Modification
from pems_sync.policies import Policies
from pems_sync.states import FINAL, State, holds_lane, may_move

_COLUMNS = (
    "state", "is_head", "changes", "base", "base_version", "expected_version", "at_risk", "priority", "committed_at",
    "queued_at", "rank_at", "not_before", "waits_for", "finished_at", "saved_at", "delivery_id", "lease_until", "started_at",
    "attempts", "crashes", "batch_limit", "exposed", "proofs", "unknown_since", "dead_reason", "error_code", "error_message",
    "error_field", "fingerprint", "may_still_land", "discard_reason", "confirmed_version", "auto_merged", "adjusted",
    "superseded_by", "authorised_by", "job", "reason", "read_back_for", "operation", "lease_epoch",
)  # fmt: skip
_RELATIONS = {"superseded_by", "authorised_by", "job"}


@dataclass
class Moves:
    """Rows changed in one transaction and not yet saved."""

    work: UnitOfWork
    rows: dict[object, Modification] = field(default_factory=dict)
    left_lane: set[int] = field(default_factory=set)
    bells: set[tuple[int, int]] = field(default_factory=set)
    policies: dict[int, Policies] = field(default_factory=dict)
    """By organization: read once in the transaction, and only where something clashes."""

    def keep(self, row: Modification) -> None:
        self.rows[row.pk] = row

    def move(self, row: Modification, state: State) -> dict[str, str]:
        """Set the state; returns it as the journal shows it before. Raises ValueError where there is no such way."""
        before = State(row.state)
        if not may_move(before, state):
            raise ValueError(f"no way from {before} to {state}")
        row.state = state
        if state is not State.DEAD:
            row.dead_reason, row.read_back_for = None, ""
        if state in FINAL:
            row.finished_at = self.work.now
        if not holds_lane(state, row.dead_reason):
            row.is_head = False
            self.left_lane.add(row.record_id)
        self.keep(row)
        return {"state": before}

    def ring(self, row: Modification, *, in_seconds: float = 0) -> None:
        """Once per transaction and second, however many rows ask for it."""
        self.bells.add((row.organization.connection_id, math.ceil(max(0.0, in_seconds))))

    def ring_bells(self) -> None:
        for connection_id, seconds in self.bells:
            dispatch.ring_on_commit(connection_id, in_seconds=seconds)
        self.bells.clear()

    def save_between(self, row: Modification) -> None:
        """Write this row down now, for two moves in one transaction: the table allows one way at a time."""
        Modification.objects.all().update_each([_columns_of(row)])

    def flush(self) -> None:
        """Save every row in one statement, give lanes without a head their next, and ring where that is news."""
        rows = list(self.rows.values())
        Modification.objects.all().update_each([_columns_of(row) for row in rows])
        if lanes.promote({row.record_id for row in rows} | self.left_lane):
            for row in rows:
                self.ring(row)
        self.rows.clear()
        self.left_lane.clear()
        self.ring_bells()


def _columns_of(row: Modification) -> dict[str, object]:
    return {"pk": row.pk} | {
        name: getattr(row, f"{name}_id") if name in _RELATIONS else getattr(row, name) for name in _COLUMNS
    }


def lock_lanes(record_ids: Sequence[int]) -> list[Modification]:
    """Every open row, draft and head of these records, locked by id. Records are locked by the caller, before."""
    rows = Modification.objects.filter(record_id__in=list(record_ids)).exclude(state__in=sorted(FINAL))
    return list(rows.select_related("author", "organization", "authorised_by").locked())
