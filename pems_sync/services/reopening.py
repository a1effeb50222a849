"""After a restore a whole sweep has ended: what only a person or PEMS itself can settle is looked at, and sending goes on.

- CONFLICTED, and PEMS shows all its values in a version that is news: it was resolved and written after the backup.
  CONFIRMED, and its conflict is closed. Else it stays with its person; opening a conflict brings it up to date.
- Where PEMS enforces no versions nothing is sent twice by machine: what was QUEUED behind a head is confirmed where PEMS
  shows it, and asked about elsewhere. (Heads are asked about by proof.)

The rest was judged while the sweep applied its pages, or is read back next. A crash in here leaves the organization closed,
and the next sweep, a minute later, comes here again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from pems_sync import dispatch, events
from pems_sync.drift import ConflictKind
from pems_sync.journal import deadlock_retried, unit_of_work
from pems_sync.models import InboundState, Membership, Modification, Organization, Record, RecordVersion
from pems_sync.models.modification import ModificationQuerySet
from pems_sync.records import shelf_for
from pems_sync.services.moves import Moves, lock_lanes
from pems_sync.services.progress import report_progress
from pems_sync.services.rebasing import rebase_open
from pems_sync.services.restarting import ACTOR
from pems_sync.services.settlement import portions
from pems_sync.services.transitions import confirm, conflict, requeue, subject
from pems_sync.states import OPEN, State


@dataclass
class Swept:
    """`found_written`: conflicts that were decided and written after the backup. `asked`: edits that a person must look
    at because this PEMS enforces no versions. `unknown_writes`: records whose last writer is a member here, by a write that
    this database does not know; kept as PEMS has them."""

    found_written: int = 0
    asked: int = 0
    unknown_writes: int = 0


def swept(organization: Organization, *, since: datetime) -> Swept | None:
    """A sweep that began at `since` saw every record. Where that was after a restart, the organization opens again."""
    fresh = Organization.objects.select_related("connection").get(pk=organization.pk)
    if fresh.restored_at is None or since < fresh.restored_at:
        return None
    found = Swept()
    wanted = _to_be_looked_at(fresh)
    ids = sorted(set(wanted.values_list("record_id", flat=True)))
    for portion in portions(ids, record_id=lambda key: key, own_entries=3):
        _look(portion, fresh, found)
    found.unknown_writes = _unknown_writes(fresh)
    _open_again(fresh, found)
    dispatch.ring(fresh.connection_id)
    return found


def _to_be_looked_at(organization: Organization) -> ModificationQuerySet:
    waiting = Q(state=State.CONFLICTED, committed_at__lt=organization.restored_at)
    if not organization.connection.guarded:
        waiting |= Q(state=State.QUEUED, exposed=True)
    return Modification.objects.for_organization(organization).filter(waiting)


@deadlock_retried
def _look(record_ids: Sequence[int], organization: Organization, found: Swept) -> None:
    """At what only a person, or PEMS itself, can settle. What the sweep made of the rest is settled already."""
    with unit_of_work() as work:
        shelf = shelf_for(record_ids)
        lanes, moves = lock_lanes(record_ids), Moves(work)
        waiting = set(_to_be_looked_at(organization).filter(record_id__in=record_ids).values_list("pk", flat=True))
        moved = _seen_since(organization).filter(record_id__in=record_ids)
        news = set(moved.values_list("record_id", flat=True))
        confirmed: dict[int, Modification] = {}
        for row in (row for row in lanes if row.pk in waiting):
            record = shelf.records[row.record_id]
            if record.pk in news and _shows(record, row):
                _confirm(moves, row, record)
                confirmed[record.pk] = row
                found.found_written += 1
            elif row.state == State.QUEUED:
                _ask(moves, row, record)
                found.asked += 1
        rebase_open(moves, shelf.records.values(), lanes, actor=ACTOR, confirmed=confirmed)
        jobs = {row.job_id for row in moves.rows.values() if row.job_id}
        moves.flush()
        report_progress(work, jobs)


def _shows(record: Record, row: Modification) -> bool:
    beyond = record.deleted_at is None and record.version > row.expected_version
    return beyond and all(record.fields.get(name) == value for name, value in row.changes.items())


def _confirm(moves: Moves, row: Modification, record: Record) -> None:
    """From a conflict by way of QUEUED, so that the table of ways stays as it is."""
    if row.state == State.CONFLICTED:
        requeue(moves, row, actor=ACTOR, why="PEMS shows all its values: it was decided and written after the backup")
        moves.save_between(row)
        moves.work.record(events.FoundWritten(**subject(row, ACTOR)))
    confirm(moves, row, version=record.version, actor=ACTOR, how="restored")


def _ask(moves: Moves, row: Modification, record: Record) -> None:
    kind = ConflictKind.OVERTAKEN if record.deleted_at is None else ConflictKind.EDIT_DELETED
    theirs = {} if record.deleted_at else dict(record.fields)
    conflict(
        moves, row, kind=kind, fields=tuple(row.changes), theirs=theirs, version=record.version, actor=ACTOR,
        theirs_at=record.changed_at,
    )  # fmt: skip


def _seen_since(organization: Organization) -> QuerySet[RecordVersion]:
    """Versions that are news since the restart."""
    return RecordVersion.objects.filter(record__organization=organization, seen_at__gte=organization.restored_at)


def _unknown_writes(organization: Organization) -> int:
    """Records whose present version a member made, by no edit that this database has or is still asking about."""
    members = Membership.objects.filter(organization=organization).values("user__username")
    edits = Modification.objects.filter(record=OuterRef("record"))
    asked_about = Q(state__in=sorted(OPEN)) | Q(state=State.DEAD, may_still_land=True)
    ours = edits.filter(Q(confirmed_version=OuterRef("version")) | asked_about)
    versions = _seen_since(organization).filter(version=F("record__version"), changed_by__in=members)
    return versions.exclude(Exists(ours)).count()


@deadlock_retried
def _open_again(organization: Organization, found: Swept) -> None:
    with unit_of_work() as work:
        if Organization.objects.filter(pk=organization.pk, restored_at=organization.restored_at).update(
            restored_at=None
        ):
            InboundState.objects.filter(organization=organization).update(sweep_due_at=None)  # planned anew
            after = {"foundWritten": found.found_written, "asked": found.asked, "unknownWrites": found.unknown_writes}
            work.record(events.OrganizationRestored(organization_id=organization.pk, actor=ACTOR, after=after))
