"""The moves between states. Nothing else in the project writes `state`.

Each takes the unit of work whose transaction it runs in, expects its rows and their records locked (records, then
modifications, by id), changes them, and records the event. Rows are saved by `Moves.flush`, in one statement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import uuid4

import structlog
from django.db import OperationalError

from pems_sync import dispatch, events
from pems_sync.drift import ConflictKind, base_for
from pems_sync.fields import MONEY_FIELDS, Values
from pems_sync.models import Modification
from pems_sync.models.modification import ReadBackFor
from pems_sync.services.moves import Moves
from pems_sync.states import DeadReason, State

log = structlog.get_logger(__name__)


def rank(queued_at: datetime, priority: int) -> datetime:
    """Order within an organization: each step of priority is worth a minute of waiting."""
    return queued_at - timedelta(seconds=60 * priority)


def release_lease(row: Modification) -> None:
    row.delivery_id = row.lease_until = row.started_at = None


def confirm(
    moves: Moves, row: Modification, *, version: int, actor: str, how: str, adjusted: Values | None = None
) -> None:
    """PEMS has it. `how`: in the journal's words (answer, proof, converged, restored)."""
    before = moves.move(row, State.CONFIRMED)
    release_lease(row)
    row.confirmed_version, row.adjusted = version, adjusted or {}
    row.exposed = row.may_still_land = False
    row.not_before, row.waits_for = None, ""
    after = {"state": State.CONFIRMED, "how": how, **({"adjusted": adjusted} if adjusted else {})}
    moves.work.record(
        events.ModificationConfirmed(
            **subject(row, actor), before=before, after=after,
            new_version=version, seconds=(moves.work.now - (row.queued_at or moves.work.now)).total_seconds(),
        )
    )  # fmt: skip


def conflict(
    moves: Moves,
    row: Modification,
    *,
    kind: ConflictKind,
    fields: tuple[str, ...],
    theirs: Values,
    version: int,
    actor: str,
    theirs_at: datetime | None = None,
) -> None:
    """Both sides changed the same. `conflicts` opens its row inside this transaction; its receiver may raise.
    `theirs_at`: when PEMS changed the record."""
    before = moves.move(row, State.CONFLICTED)
    release_lease(row)
    row.not_before, row.waits_for = None, "a person decides which values stand"
    row.exposed = row.may_still_land = False
    moves.work.record(
        events.ModificationConflicted(
            **subject(row, actor), before=before, after={"state": State.CONFLICTED, "kind": kind}, conflict_id=uuid4(),
            conflict_kind=kind, fields=fields, base=row.base, ours={**row.base, **row.changes}, theirs=theirs,
            pems_version=version, theirs_at=theirs_at,
        )
    )  # fmt: skip


def requeue(moves: Moves, row: Modification, *, actor: str, why: str) -> None:
    """Back to the queue without having been sent: nothing burnt, nobody need be told."""
    before = moves.move(row, State.QUEUED)
    release_lease(row)
    moves.work.record(
        events.DeliveryReturned(**subject(row, actor), before=before, after={"state": State.QUEUED}, reason=why)
    )


def retry_later(moves: Moves, row: Modification, *, at: datetime, error: str, actor: str) -> None:
    """Waits for another try at `at`. Whether an attempt was burnt has been counted by the caller."""
    before = moves.move(row, State.QUEUED)
    release_lease(row)
    row.not_before, row.waits_for, row.error_message = at, error[:300], error[:500]
    moves.work.record(
        events.ModificationRetrying(
            **subject(row, actor), before=before, after={"state": State.QUEUED}, retry_count=row.attempts,
            next_attempt_at=at.isoformat().replace("+00:00", "Z"), error=error,
        )
    )  # fmt: skip
    moves.ring(row, in_seconds=(at - moves.work.now).total_seconds())


def suspect(moves: Moves, row: Modification, *, cause: str, read_at: datetime, actor: str) -> None:
    """Sent, outcome unknown: exposed until proven. `read_at`: when PEMS is read back first."""
    before = moves.move(row, State.UNKNOWN)
    row.delivery_id = row.lease_until = None
    row.exposed, row.proofs, row.unknown_since = True, 0, moves.work.now
    row.not_before, row.waits_for, row.error_message = (
        read_at,
        "PEMS is read back to see whether it was applied",
        cause[:500],
    )
    moves.work.record(
        events.OutcomeUnknown(**subject(row, actor), before=before, after={"state": State.UNKNOWN}, reason=cause[:500])
    )


def bury(
    moves: Moves, row: Modification, *, reason: DeadReason, code: str, message: str, actor: str, at_field: str = ""
) -> None:
    """The machine gives up, with a reason, and a message on pems.dlq."""
    row.dead_reason = reason
    before = moves.move(row, State.DEAD)
    release_lease(row)
    row.may_still_land = row.exposed
    row.error_code, row.error_message, row.error_field = code[:64], message[:500], at_field[:64]
    row.fingerprint = fingerprint(reason, code, at_field, message)
    row.not_before, row.waits_for = None, ""
    moves.work.record(
        events.ModificationBuried(
            **subject(row, actor), before=before, after={"state": State.DEAD, "reason": reason, "code": code},
            error=_without_amounts(message, code, at_field), dead_reason=reason, retry_count=row.attempts,
        )
    )  # fmt: skip
    dispatch.dead_letter_on_commit(row.pk, shown=f"{row.organization.code} {row.pfa_id} {reason}: {message[:80]}")


@contextmanager
def alone(moves: Moves, row: Modification) -> Iterator[None]:
    """What happens to one row, under its own savepoint. If it raises, that row alone becomes DEAD(internal), and a
    dead letter stays one; a lost deadlock is let through, because the whole transaction is carried out again."""
    kept = dict(vars(row))
    try:
        with moves.work.savepoint():
            yield
    except OperationalError:
        raise
    except Exception:
        log.exception("settle_failed", modification=str(row.pk))
        vars(row).update(kept)
        bury_internal(moves, row)


def _without_amounts(message: str, code: str, at_field: str) -> str:
    """What sockets carry goes to members who may not see amounts as well; the row keeps the sentence itself."""
    return f"{at_field} was refused ({code})" if at_field in MONEY_FIELDS else message[:500]


def bury_internal(moves: Moves, row: Modification) -> None:
    """A defect of ours stopped this row. One that is a dead letter already stays as it was, and is asked for nothing."""
    if row.state == State.DEAD:
        row.read_back_for, row.lease_until = "", None
        moves.keep(row)
        return
    message = "A defect of ours stopped this edit. Nothing was lost; retry it when support says so."
    bury(moves, row, reason=DeadReason.INTERNAL, code="INTERNAL", message=message, actor="worker")


def withdraw(moves: Moves, row: Modification, *, actor: str, reason: str) -> None:
    before = moves.move(row, State.WITHDRAWN)
    release_lease(row)
    row.not_before, row.waits_for = None, ""
    moves.work.record(
        events.ModificationWithdrawn(
            **subject(row, actor), before=before, after={"state": State.WITHDRAWN}, reason=reason
        )
    )


def queue_again(moves: Moves, row: Modification, *, actor: str, reason: str, at_tail: bool) -> None:
    """By a person's decision: retried dead letter, resolved conflict. A fresh count of attempts."""
    before = moves.move(row, State.QUEUED)
    row.attempts, row.crashes, row.not_before, row.waits_for = 0, 0, None, ""
    row.error_code = row.error_message = row.error_field = row.fingerprint = ""
    if at_tail:
        row.queued_at = moves.work.now
    row.rank_at = rank(row.queued_at or moves.work.now, row.priority)
    moves.work.record(
        events.ModificationQueued(**subject(row, actor), before=before, after={"state": State.QUEUED}, reason=reason)
    )
    moves.ring(row)


def new_base(row: Modification, *, values: Values, version: int) -> None:
    """A person decided against these values: they are the base from here on."""
    row.base, row.base_version, row.expected_version = base_for(row.changes, values), version, version
    row.exposed = row.may_still_land = False


def fingerprint(reason: str, code: str, at_field: str, message: str) -> str:
    """The same for dead letters of one cause: digits and ids in the message do not count."""
    shape = "".join("#" if char.isdigit() else char for char in message.lower())[:120]
    while "##" in shape:
        shape = shape.replace("##", "#")
    return hashlib.sha256("\n".join((reason, code, at_field, shape)).encode()).hexdigest()[:16]


def subject(row: Modification, actor: str) -> events.Subject:
    """What every event of a modification carries."""
    author = row.author.username
    return events.Subject(
        organization_id=row.organization_id,
        pfa_id=row.pfa_id,
        modification_id=row.pk,
        actor=actor,
        on_behalf_of="" if actor == author else author,
    )


def read_back_first(moves: Moves, row: Modification, *, then: ReadBackFor, actor: str) -> None:
    """A dead letter that may still land: PEMS is read back before the person's wish is carried out."""
    row.read_back_for, row.proofs = then, 0
    row.not_before, row.waits_for = moves.work.now, "PEMS is read back first: it may have landed after all"
    moves.keep(row)
    moves.work.record(events.ReadBackAsked(**subject(row, actor), reason=then))
