"""In plain words: why a modification stands where it stands, what happens next, and who must act."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from django.conf import settings

from pems_sync.api.presenting import shown_text
from pems_sync.api.wire import stamp, status_of
from pems_sync.lanes import blocking_head
from pems_sync.maintenance import notice, open_till
from pems_sync.models import Connection, Modification, Organization
from pems_sync.models.organization import Breaker, BreakerOverride
from pems_sync.services import breaking
from pems_sync.states import DeadReason, State

MACHINE, NOBODY = "nobody: it goes on by itself", "nobody"
PERSON_RESOLVE = "somebody who may resolve conflicts"
PERSON_SYNC = "somebody who may sync"
ADMIN, SUPPORT = "an administrator of the organization", "support"


@dataclass(frozen=True)
class Explanation:
    text: str
    next: str
    who_must_act: str
    next_at: datetime | None = None

    def as_wire(self) -> dict[str, Any]:
        next_at = stamp(self.next_at)
        return {"text": self.text, "next": self.next, "nextAt": next_at, "whoMustAct": self.who_must_act}


def explain(row: Modification, *, now: datetime, money: bool) -> Explanation:
    """`money`: whether the reader may see amounts; what PEMS said may contain them."""
    said = shown_text(row.error_message or row.waits_for, about=row.error_field, money=money)
    state = State(row.state)
    match state:
        case State.DRAFT:
            return _draft(row)
        case State.QUEUED:
            return _queued(row, now, said)
        case State.SENDING:
            return _sending(row)
        case State.UNKNOWN:
            text = "It was sent, and whether PEMS applied it is not known yet" + _because(said)
            connection = row.organization.connection
            quiet = _maintained(connection, now, then="PEMS is read back") or _silent(connection)
            if quiet is not None:
                return Explanation(f"{text} {quiet.text}", quiet.next, quiet.who_must_act, quiet.next_at)
            return Explanation(text, "PEMS is read back to see whether it landed.", MACHINE, row.not_before)
        case State.CONFLICTED:
            text = "Here and in PEMS the same fields were changed, or PEMS moved in a way that no machine should judge."
            return Explanation(text, "A person decides which values stand.", PERSON_RESOLVE)
        case State.DEAD:
            return _dead(row, said)
        case State.CONFIRMED:
            return Explanation(f"PEMS has it, as version {row.confirmed_version}.", "Nothing: it is done.", NOBODY)
        case State.SUPERSEDED:
            text = "A later edit by the same author took its place and carries its changes."
            return Explanation(text, "Follow the later edit.", NOBODY)
        case State.WITHDRAWN:
            text = "It was taken back, by a person or by policy. PEMS keeps its values."
            return Explanation(text, "Nothing: it is done.", NOBODY)
        case _:
            assert_never(state)


def _because(cause: str) -> str:
    return f" ({cause.rstrip('.')})." if cause else "."


def _draft(row: Modification) -> Explanation:
    text = "It is a draft: nothing has been sent."
    if row.at_risk:
        changed = ", ".join(row.at_risk)
        text = f"It is a draft, and PEMS has changed {changed} since: committed as it is, it becomes a conflict."
    return Explanation(
        text, "Its author commits it with write-sync, or discards it.", f"its author, {row.author.username}"
    )


def _queued(row: Modification, now: datetime, said: str) -> Explanation:
    head = blocking_head(row)
    if head is not None:
        return _behind(row, head)
    held = _held(row.organization, now)
    if held is not None:
        return held
    if row.not_before is not None and row.not_before > now:
        text = f"Try {row.attempts} did not succeed" if row.attempts else "The connection to PEMS was in trouble"
        return Explanation(text + _because(said), "It is sent again.", MACHINE, row.not_before)
    return Explanation("It waits for its turn.", "It is sent as soon as the pace allows.", MACHINE)


def _behind(row: Modification, head: Modification) -> Explanation:
    whose = (
        "an earlier edit of yours" if head.author_id == row.author_id else f"an earlier edit by {head.author.username}"
    )
    text = f"It waits behind {whose} of the same record ({head.pk}), which is {status_of(head)}."
    if head.state == State.CONFLICTED:
        return Explanation(text, "That conflict is resolved, then this one goes on.", PERSON_RESOLVE)
    if head.state == State.DEAD:
        return Explanation(text, "That dead letter is retried or discarded, then this one goes on.", PERSON_SYNC)
    return Explanation(text, "That one settles first, then this one goes on.", MACHINE)


def _held(organization: Organization, now: datetime) -> Explanation | None:
    """Why nothing of the organization is sent, if so."""
    connection = organization.connection
    if not settings.ENABLE_WRITE_SYNC:
        return Explanation("Sending is switched off on this installation.", "It is switched on again.", SUPPORT)
    if organization.paused_at is not None:
        text = "The queue of the organization is paused" + _because(organization.paused_reason)
        return Explanation(text, "The queue is resumed, then it is sent.", ADMIN)
    if organization.restored_at is not None:
        text = "The database was restored from a backup: PEMS is read as a whole before anything is sent."
        return Explanation(text, "A full sweep has ended, then it is read back or sent.", MACHINE)
    if connection.paused_at is not None:
        text = "The connection to PEMS is paused" + _because(connection.paused_reason)
        return Explanation(text, "The connection is put right and resumed, then it is sent.", ADMIN)
    quiet = _maintained(connection, now, then="it is sent") or _silent(connection)
    if quiet is not None:
        return quiet
    if connection.held_until is not None and connection.held_until > now:
        text = "The connection to PEMS rests" + _because(connection.held_reason)
        return Explanation(text, "Sending goes on.", MACHINE, connection.held_until)
    return None


def _maintained(connection: Connection, now: datetime, *, then: str) -> Explanation | None:
    """A window is open, in which nothing is sent nor read."""
    said = notice(connection, now)
    if said is None:
        return None
    return Explanation(f"{said}.", f"The window ends, then {then}.", MACHINE, open_till(connection, now))


def _silent(connection: Connection) -> Explanation | None:
    """The breaker is open, by itself or by order."""
    if breaking.state_of(connection) is Breaker.CLOSED:
        return None
    if connection.breaker_override == BreakerOverride.OPEN:
        text = "The connection to PEMS is kept quiet by order" + _because(connection.breaker_override_reason)
        return Explanation(text, "The order is taken back, then it goes on.", ADMIN)
    text = "PEMS does not answer" + _because(connection.breaker_reason)
    if connection.breaker == Breaker.HALF_OPEN:
        return Explanation(text, "It is tried again right now, with one request; then all goes on.", MACHINE)
    next_step = "It is tried again with one request; when PEMS answers that, all goes on."
    return Explanation(text, next_step, MACHINE, connection.breaker_probe_at)


def _sending(row: Modification) -> Explanation:
    text = (
        "The request to PEMS is under way."
        if row.started_at
        else "A worker has it in hand and waits for a slot of the pace."
    )
    return Explanation(text, "PEMS answers.", MACHINE, row.lease_until)


_DEAD = {
    DeadReason.REJECTED: "It was refused",
    DeadReason.EXHAUSTED: "All tries are used up",
    DeadReason.POISON: "It stopped workers twice, so it is kept aside; later edits of the record wait",
    DeadReason.INTERNAL: "A defect of ours stopped it; nothing was lost",
}


def _dead(row: Modification, said: str) -> Explanation:
    text = _DEAD[DeadReason(row.dead_reason or DeadReason.INTERNAL)] + _because(said)
    if row.read_back_for:
        text += " It may have landed after all, so PEMS is read back first."
        return Explanation(text, f"After the reading it is {_WISHES[row.read_back_for]}.", MACHINE, row.not_before)
    return Explanation(text, "It is fixed and sent again, retried, or discarded.", PERSON_SYNC)


_WISHES = {"retry": "sent again if it has not landed", "discard": "discarded if it has not landed"}
