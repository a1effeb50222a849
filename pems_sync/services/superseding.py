"""A dead letter comes back to a world that went on: what later edits have settled meanwhile is no longer its wish (D14)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from pems_sync.drift import base_for
from pems_sync.models import Modification
from pems_sync.services.moves import Moves
from pems_sync.services.transitions import queue_again, withdraw
from pems_sync.states import State


def settled_since(rows: Sequence[Modification]) -> dict[UUID, frozenset[str]]:
    """By modification: those of its fields that an edit committed later has changed, and PEMS has confirmed. One query."""
    confirmed = Modification.objects.filter(record__in={row.record_id for row in rows}, state=State.CONFIRMED)
    later: dict[int, list[tuple[datetime, set[str]]]] = defaultdict(list)
    for record_id, at, changes in confirmed.values_list("record_id", "committed_at", "changes"):
        if at is not None:
            later[record_id].append((at, set(changes)))
    return {row.pk: _settled(row, later[row.record_id]) for row in rows}


def _settled(row: Modification, others: Sequence[tuple[datetime, set[str]]]) -> frozenset[str]:
    since = row.committed_at
    names = {name for at, changed in others if since is None or at > since for name in changed}
    return frozenset(names & row.changes.keys())


def come_back(moves: Moves, row: Modification, *, settled: frozenset[str], actor: str, why: str) -> bool:
    """Queue a dead letter again, at the tail, without its `settled` fields, which is told; withdraw it where nothing else
    is left of it. Whether it was queued. Not for one that may still land: it is sent again as it was, or not at all."""
    left = {name: value for name, value in row.changes.items() if name not in settled}
    told = f"later edits of {', '.join(sorted(settled))} were confirmed"
    if not left:
        withdraw(moves, row, actor=actor, reason=f"nothing is left of it: {told}")
        return False
    if settled:
        row.changes, row.base = left, base_for(left, row.base)
        why = f"{why}, the rest alone: {told}"
    queue_again(moves, row, actor=actor, reason=why, at_tail=True)
    return True
