"""The words of API.md for the states of the engine, both ways, and the form of times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import assert_never

from django.db.models import Q

from pems_sync.models import Modification
from pems_sync.states import State

STATUS_WORDS = (
    "draft", "queued", "retrying", "syncing", "verifying", "synced", "conflict", "failed", "superseded", "withdrawn",
)  # fmt: skip

_FAILED_BEFORE = Q(not_before__isnull=False) & (Q(attempts__gt=0) | ~Q(error_message=""))


def status_of(row: Modification) -> str:
    """`retrying` is queued after a failed attempt or a connection fault, with a time."""
    state = State(row.state)
    match state:
        case State.QUEUED:
            failed_before = row.not_before is not None and (row.attempts > 0 or row.error_message != "")
            return "retrying" if failed_before else "queued"
        case State.SENDING:
            return "syncing"
        case State.UNKNOWN:
            return "verifying"
        case State.CONFLICTED:
            return "conflict"
        case State.DEAD:
            return "failed"
        case State.CONFIRMED:
            return "synced"
        case State.DRAFT | State.SUPERSEDED | State.WITHDRAWN:
            return str(state)
        case _:
            assert_never(state)


def having_status(word: str) -> Q:
    """The modifications that `status_of` calls by this word."""
    match word:
        case "queued":
            return Q(state=State.QUEUED) & ~_FAILED_BEFORE
        case "retrying":
            return Q(state=State.QUEUED) & _FAILED_BEFORE
        case _:
            return Q(state=_STATES[word])


_STATES = {
    "draft": State.DRAFT, "syncing": State.SENDING, "verifying": State.UNKNOWN, "synced": State.CONFIRMED,
    "conflict": State.CONFLICTED, "failed": State.DEAD, "superseded": State.SUPERSEDED, "withdrawn": State.WITHDRAWN,
}  # fmt: skip


def stamp(at: datetime | None) -> str | None:
    """RFC 3339, UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else None
