"""Every state of a modification, and every way from one to another.

`TRANSITIONS` is the whole truth: services move rows only along it, a database trigger (migration 0002, tested
against this table) refuses anything else, and the state diagram in pems_sync/README.md is drawn from it.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a modification stands. Exactly one per row."""

    DRAFT = "draft"
    """A planner is still editing. Not accepted yet, so invariant I2 does not count it."""
    QUEUED = "queued"
    """Accepted. Waits for its turn in its lane, for the pace, or until `not_before`."""
    SENDING = "sending"
    """A worker holds a lease. Without `started_at` nothing has been sent; with it an attempt is written down."""
    UNKNOWN = "unknown"
    """Sent, or perhaps sent after the backup that was restored, and whether PEMS applied it is not known. Only reading
    PEMS back moves it on."""
    CONFLICTED = "conflicted"
    """Both sides changed the same field or group. A person decides; the lane waits."""
    DEAD = "dead"
    """The machine gave up, for the reason in `dead_reason`. A person retries, fixes or discards it."""
    CONFIRMED = "confirmed"
    """PEMS has it: by its answer, by proof, or because both sides had made the same change."""
    SUPERSEDED = "superseded"
    """Folded into a later modification of the same author, which carries its changes."""
    WITHDRAWN = "withdrawn"
    """Taken back by a person (discarded draft, withdrawn edit, PEMS's values kept, dead letter discarded), or by a policy
    that lets PEMS's values stand in all of it."""


class DeadReason(StrEnum):
    """Why the machine gave up."""

    REJECTED = "rejected"
    """PEMS refused it, or its author may no longer make it. The same request would be refused again."""
    EXHAUSTED = "exhausted"
    """Transient failures used up all attempts."""
    POISON = "poison"
    """It crashed workers twice. Its lane stays blocked until a person looks."""
    INTERNAL = "internal"
    """A defect of ours stopped it. Nothing was lost; the log has the details."""


TRANSITIONS: dict[State, frozenset[State]] = {
    State.DRAFT: frozenset({State.QUEUED, State.WITHDRAWN}),
    State.QUEUED: frozenset(
        {State.SENDING, State.UNKNOWN, State.CONFLICTED, State.CONFIRMED, State.SUPERSEDED, State.WITHDRAWN, State.DEAD}
    ),
    State.SENDING: frozenset({State.QUEUED, State.UNKNOWN, State.CONFIRMED, State.CONFLICTED, State.DEAD}),
    State.UNKNOWN: frozenset({State.QUEUED, State.CONFIRMED, State.CONFLICTED, State.DEAD}),
    State.CONFLICTED: frozenset({State.QUEUED, State.WITHDRAWN}),
    State.DEAD: frozenset({State.QUEUED, State.CONFLICTED, State.CONFIRMED, State.WITHDRAWN}),
    State.CONFIRMED: frozenset(),
    State.SUPERSEDED: frozenset(),
    State.WITHDRAWN: frozenset(),
}

IN_FLIGHT = frozenset({State.SENDING, State.UNKNOWN})
"""At most one of these per record (I3)."""
OPEN = frozenset({State.QUEUED, State.SENDING, State.UNKNOWN, State.CONFLICTED})
"""Committed and on its way. Together with a poisoned DEAD row these make up a record's lane."""
FINAL = frozenset(state for state, ways in TRANSITIONS.items() if not ways)


def may_move(old: State, new: State) -> bool:
    return new in TRANSITIONS[old]


def holds_lane(state: State, dead_reason: str | None) -> bool:
    """Whether a row keeps its place in its record's lane: open ones, and poison until a person has looked."""
    return state in OPEN or (state is State.DEAD and dead_reason == DeadReason.POISON)
