"""What people decide about a committed modification: withdraw it, retry it, discard it, pause the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q

from pems_sync import dispatch, events
from pems_sync.drift import base_for
from pems_sync.errors import IllegalTransitionError
from pems_sync.fields import Values
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import Connection, Membership, Modification, Organization, Record
from pems_sync.models.modification import Operation, ReadBackFor
from pems_sync.records import shelf_for
from pems_sync.services.moves import Moves, lock_lanes
from pems_sync.services.progress import report_progress
from pems_sync.services.rebasing import advance_alone
from pems_sync.services.superseding import come_back, settled_since
from pems_sync.services.transitions import read_back_first, withdraw
from pems_sync.states import IN_FLIGHT, State

REPLAYED_PER_SECOND = 10


@deadlock_retried
def withdraw_modification(*, membership: Membership, modification: Modification, reason: str = "") -> Modification:
    """Take an edit back. Raises IllegalTransitionError where it is final, being sent, or may still land."""
    with unit_of_work() as work:
        row, moves = _locked(work, modification)
        if not may_withdraw(row):
            raise IllegalTransitionError(f"A modification that is {describe(row)} cannot be withdrawn.")
        withdraw(moves, row, actor=membership.user.username, reason=reason or "withdrawn")
        _finish(work, moves, row)
    return row


def may_withdraw(row: Modification) -> bool:
    """Anything that waits, for the machine or for a person, and cannot land any more."""
    waiting = row.state in (State.DRAFT, State.QUEUED, State.CONFLICTED, State.DEAD)
    return waiting and not row.exposed and not row.may_still_land


def may_retry(row: Modification) -> bool:
    """A dead letter, or a queued one that waits for its next try."""
    return row.state == State.DEAD or (row.state == State.QUEUED and row.not_before is not None)


def describe(row: Modification) -> str:
    if row.exposed or row.may_still_land:
        return f"{row.state} and may still reach PEMS"
    return str(row.state)


@deadlock_retried
def retry_modification(*, membership: Membership, modification: Modification) -> Modification:
    """Try again now. Raises IllegalTransitionError where nothing waits for a retry."""
    with unit_of_work() as work:
        row, moves = _locked(work, modification)
        if not may_retry(row):
            raise IllegalTransitionError(f"A modification that is {describe(row)} cannot be retried.")
        if row.state == State.QUEUED:
            row.not_before, row.waits_for = None, ""
            moves.keep(row)
        else:
            _replay(moves, row, _standings([row])[row.pk], membership=membership)
        _finish(work, moves, row)
    return row


@dataclass(frozen=True)
class _Standing:
    """Where a dead letter comes back to: the stored record, whether a write of it is under way, and which of its fields
    later edits have settled."""

    record: Record
    under_way: bool
    settled: frozenset[str]


def _standings(rows: Sequence[Modification]) -> dict[UUID, _Standing]:
    records = Record.objects.in_bulk({row.record_id for row in rows})
    under_way = Q(state__in=sorted(IN_FLIGHT)) | Q(state=State.QUEUED, exposed=True)
    busy = set(Modification.objects.filter(under_way, record_id__in=records).values_list("record_id", flat=True))
    settled = settled_since(rows)
    return {row.pk: _Standing(records[row.record_id], row.record_id in busy, settled[row.pk]) for row in rows}


def _replay(
    moves: Moves, row: Modification, standing: _Standing, *, membership: Membership, changes: Values | None = None
) -> None:
    """A dead letter goes to the tail of its record's lane, its intent rebased on the present state, without what later
    edits have settled (D14); one that may still land is read back first. What is corrected now is meant now."""
    if row.may_still_land:
        if changes is not None:
            raise IllegalTransitionError(
                "It may still reach PEMS as it was; retry it unchanged, so that PEMS is read back first."
            )
        read_back_first(moves, row, then=ReadBackFor.RETRY, actor=membership.user.username)
        return
    if changes is not None:
        row.changes = {**row.changes, **changes}
        row.operation = Operation.DELETE if row.changes == {"isDiscontinued": True} else Operation.UPDATE
        row.base = base_for(row.changes, {**standing.record.fields, **row.base})
    row.authorised_by = membership.user
    settled = standing.settled - (changes or {}).keys()
    queued = come_back(moves, row, settled=settled, actor=membership.user.username, why="retried")
    if queued and not standing.under_way:  # else it is compared when that is settled
        advance_alone(moves, row, standing.record, actor=membership.user.username)


def discard(moves: Moves, row: Modification, *, membership: Membership, reason: str) -> None:
    """A dead letter is given up by a person; one that may still land is read back first."""
    if row.may_still_land:
        row.discard_reason = reason
        read_back_first(moves, row, then=ReadBackFor.DISCARD, actor=membership.user.username)
    else:
        withdraw(moves, row, actor=membership.user.username, reason=reason)


@deadlock_retried
def discard_dead_letters(
    *, membership: Membership, modification_ids: Sequence[UUID], reason: str
) -> list[Modification]:
    """Give up these dead letters of the organization; others among the ids are left alone."""
    with unit_of_work() as work:
        rows, moves = lock_dead(work, membership.organization, modification_ids)
        for row in rows:
            discard(moves, row, membership=membership, reason=reason)
        _finish(work, moves, *rows)
    return rows


@deadlock_retried
def replay_dead_letters(
    *, membership: Membership, modification_ids: Sequence[UUID], changes: Values | None = None, behind: int = 0
) -> list[Modification]:
    """Queue these dead letters again, in the order in which they were first queued, a few each second: should their cause
    still be there, it shows on few. `changes`: canonical, for one only. `behind`: how many go before them."""
    with unit_of_work() as work:
        rows, moves = lock_dead(work, membership.organization, modification_ids)
        standings = _standings(rows)
        in_order = sorted(rows, key=lambda row: (row.queued_at or work.now, str(row.pk)))
        for place, row in enumerate(in_order, start=behind):
            _replay(moves, row, standings[row.pk], membership=membership, changes=changes)
            _stagger(moves, row, place // REPLAYED_PER_SECOND)
        _finish(work, moves, *rows)
    return rows


def _stagger(moves: Moves, row: Modification, seconds: int) -> None:
    if seconds and row.state == State.QUEUED:
        row.not_before = moves.work.now + timedelta(seconds=seconds)
        row.waits_for = "dead letters are sent again a few at a time"
        moves.ring(row, in_seconds=seconds)


def lock_dead(work: UnitOfWork, organization: Organization, ids: Sequence[UUID]) -> tuple[list[Modification], Moves]:
    dead = Modification.objects.for_organization(organization).filter(pk__in=ids, state=State.DEAD)
    shelf = shelf_for(dead.values_list("record_id", flat=True))
    wanted = set(ids)
    rows = [row for row in lock_lanes(list(shelf.records)) if row.pk in wanted and row.state == State.DEAD]
    return rows, Moves(work)


def _locked(work: UnitOfWork, modification: Modification) -> tuple[Modification, Moves]:
    """The row as it is now, its record and lane locked. Raises IllegalTransitionError when it is final."""
    shelf_for([modification.record_id])
    rows = {row.pk: row for row in lock_lanes([modification.record_id])}
    if modification.pk not in rows:
        modification.refresh_from_db()
        raise IllegalTransitionError(f"A modification that is {modification.state} is final.")
    return rows[modification.pk], Moves(work)


def _finish(work: UnitOfWork, moves: Moves, *rows: Modification) -> None:
    for row in rows:
        moves.ring(row)
    moves.flush()
    report_progress(work, {row.job_id for row in rows if row.job_id})


def pause(*, organization: Organization, user: AbstractBaseUser, reason: str) -> None:
    """Edits are still accepted; nothing of this organization is sent until it is resumed."""
    with unit_of_work() as work:
        Organization.objects.filter(pk=organization.pk).update(paused_at=work.now, paused_reason=reason[:500])
        work.record(events.QueuePaused(organization_id=organization.pk, actor=user.get_username(), reason=reason[:500]))


def resume(*, organization: Organization, user: AbstractBaseUser) -> None:
    """Lifts the organization's pause and an automatic one of its connection."""
    with unit_of_work() as work:
        Organization.objects.filter(pk=organization.pk).update(paused_at=None, paused_reason="")
        Connection.objects.filter(pk=organization.connection_id).update(
            paused_at=None, paused_reason="", held_until=None, held_reason=""
        )
        work.record(events.QueueResumed(organization_id=organization.pk, actor=user.get_username()))
    dispatch.ring(organization.connection_id)
