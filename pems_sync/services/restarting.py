"""A database that came from a backup, while PEMS moved on (PROTOCOL.md, *Restore*).

What was accepted after the backup is gone, and so is the knowledge of what was sent after it. PEMS has that, and is asked
before anything is written again. `restart` runs once, before any worker: it closes the organization and marks every open
edit by what may have become of it since the backup.

- SENDING, UNKNOWN, and QUEUED at the head of its lane: perhaps sent, at this version or after a rebase. UNKNOWN, exposed.
  The sweep or a read proves it (proof.judge). Not landed, it goes again byte for byte, with the same Idempotency-Key.
- QUEUED behind a head: perhaps sent, once that head was confirmed. It stays QUEUED (I3: one in flight per record), but
  exposed: no fold, no rebase, no withdrawal. When it is its turn it goes as it was, at its version; if PEMS ever moved, PEMS
  refuses that, and it is judged by what PEMS shows. It is freed earlier where the one version PEMS made since is the head's
  own write (rebasing): nothing of this lane can have come behind it.
- CONFLICTED: perhaps resolved, and written. Nothing here is sent without a person, so it waits for the sweep (reopening).
- DEAD: perhaps retried, and written. `may_still_land`: retry and discard read back first.
- DRAFT: perhaps committed, and written. Committed again it is compared as any: what PEMS holds is no second write.

Until a whole sweep has ended nothing is sent, and nothing read singly: the sweep is the same evidence, 200 records to a
request. Rows committed after the restart are ordinary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pems_sync import events
from pems_sync.journal import deadlock_retried, unit_of_work
from pems_sync.models import InboundState, JournalEntry, JournalHead, Modification, Organization
from pems_sync.records import shelf_for
from pems_sync.services.moves import Moves, lock_lanes
from pems_sync.services.settlement import portions
from pems_sync.services.transitions import suspect
from pems_sync.states import State

ACTOR = "restore"
_MARKED = (State.QUEUED, State.SENDING, State.UNKNOWN, State.DEAD)
_CAUSE = "the database was restored from a backup: it may have been sent since"


@dataclass(frozen=True)
class Restarted:
    """`contained_until`: of the last entry the backup holds; `lost_from` … `lost_until`: what was accepted in between is
    gone. `open`: committed modifications by state, as the backup has them."""

    organization: Organization
    contained_until: datetime | None
    lost_from: datetime | None
    lost_until: datetime
    open: dict[str, int]
    drafts: int


def restart(organization: Organization, *, backup_taken_at: datetime | None = None) -> Restarted:
    """Close the organization, mark its open edits, ask for a sweep. Run again it goes on where it was."""
    told = _close(organization, backup_taken_at)
    rows = Modification.objects.for_organization(organization).filter(state__in=_MARKED)
    rows = rows.filter(committed_at__lt=told.lost_until)
    ids = sorted(set(rows.values_list("record_id", flat=True)))
    for portion in portions(ids, record_id=lambda key: key, own_entries=1):
        _mark(portion, before=told.lost_until)
    return told


@deadlock_retried
def _close(organization: Organization, backup_taken_at: datetime | None) -> Restarted:
    """Nothing is sent from here on. The sweep that is asked for begins at the first page, whatever one was under way."""
    with unit_of_work() as work:
        fresh = Organization.objects.select_for_update().get(pk=organization.pk)
        state, _ = InboundState.objects.get_or_create(organization=fresh)
        if fresh.restored_at is not None:
            return _report(fresh, fresh.restored_at, backup_taken_at)
        told = _report(fresh, work.now, backup_taken_at)
        Organization.objects.filter(pk=fresh.pk).update(restored_at=work.now)
        InboundState.objects.filter(pk=state.pk).update(
            sweep_due_at=work.now, pull_due_at=work.now, lease_until=None, run_since=None, run_until=None, run_cursor=""
        )
        head = JournalHead.objects.filter(organization=fresh).first()
        after = {
            "containedUntil": told.contained_until, "lostFrom": told.lost_from, "lostUntil": told.lost_until,
            "seq": head.seq if head else 0, "open": told.open,
        }  # fmt: skip
        shown = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in after.items()}
        work.record(events.OrganizationRestarted(organization_id=fresh.pk, actor=ACTOR, after=shown))
    return told


def _report(organization: Organization, at: datetime, backup_taken_at: datetime | None) -> Restarted:
    entries = JournalEntry.objects.filter(organization=organization, recorded_at__lt=at)
    last = entries.order_by("-position").values_list("recorded_at", flat=True).first()
    known = [moment for moment in (last, backup_taken_at) if moment is not None]
    rows = Modification.objects.for_organization(organization)
    counts = {str(state): rows.filter(state=state).count() for state in (*_MARKED, State.CONFLICTED)}
    return Restarted(organization, last, max(known, default=None), at, counts, rows.filter(state=State.DRAFT).count())


@deadlock_retried
def _mark(record_ids: Sequence[int], *, before: datetime) -> None:
    with unit_of_work() as work:
        shelf = shelf_for(record_ids)
        moves = Moves(work)
        for row in lock_lanes(list(shelf.records)):
            if row.state in _MARKED and row.committed_at is not None and row.committed_at < before:
                _mark_one(moves, row)
        moves.flush()


def _mark_one(moves: Moves, row: Modification) -> None:
    row.lease_until = row.delivery_id = None
    if row.state == State.DEAD:
        row.may_still_land = True
    elif row.state == State.UNKNOWN:
        row.exposed, row.proofs, row.not_before = True, 0, moves.work.now
    elif row.is_head:
        suspect(moves, row, cause=_CAUSE, read_at=moves.work.now, actor=ACTOR)
    else:
        row.exposed = True
    moves.keep(row)
