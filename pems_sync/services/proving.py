"""What the verdict on an unknown outcome does to its row, and the lease under which PEMS is read back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings

from pems_sync import events
from pems_sync.client.base import Gone, PemsRecord
from pems_sync.client.breaker import burns
from pems_sync.drift import ConflictKind
from pems_sync.journal import deadlock_retried, unit_of_work
from pems_sync.models import Attempt, Modification
from pems_sync.models.attempt import OutcomeKind
from pems_sync.models.modification import ReadBackFor
from pems_sync.models.organization import Breaker
from pems_sync.services.rebasing import advance, is_under_way
from pems_sync.services.settlement import Note, Settlement, bury_record
from pems_sync.services.settling import burn
from pems_sync.services.superseding import come_back, settled_since
from pems_sync.services.transitions import confirm, conflict, requeue, subject, withdraw
from pems_sync.states import IN_FLIGHT, State

JUDGED = frozenset({State.SENDING, State.UNKNOWN, State.DEAD})
"""States in which a row may be judged by a read of its own: after a 409, when due, when a person asked."""


def take(ids: Sequence[UUID], *, total_seconds: float) -> list[Modification]:
    """Lease the rows that are due for a read-back, so that nobody else reads for them."""
    with unit_of_work() as work:
        due = Modification.objects.provable(work.now).select_related("organization__connection", "authorised_by")
        rows = list(due.filter(pk__in=ids).order_by("pk").select_for_update(skip_locked=True, of=("self",)))
        lease = work.now + timedelta(seconds=settings.CLAIM_LEASE_SECONDS + total_seconds * min(len(rows), 3))
        for row in rows:
            row.lease_epoch, row.lease_until = row.lease_epoch + 1, lease
        columns = [{"pk": row.pk, "lease_epoch": row.lease_epoch, "lease_until": lease} for row in rows]
        Modification.objects.all().update_each(columns)
    return rows


def leave(rows: Sequence[Modification]) -> None:
    """PEMS may not be asked now: they stay due, and nothing is journalled however often that happens."""
    for row in rows:
        mine = Modification.objects.filter(pk=row.pk, lease_epoch=row.lease_epoch, state__in=sorted(JUDGED))
        mine.update(lease_until=None)


@deadlock_retried
def put_off(row: Modification, *, why: str) -> None:
    """A read that failed: the next after 2, 10, 60 seconds, then each minute."""
    with unit_of_work() as work:
        settlement = Settlement.open(work, [row], states=JUDGED)
        for mine in settlement.mine:
            mine.proofs += 1
            delays = settings.PROOF_DELAYS
            mine.not_before = work.now + timedelta(seconds=delays[min(mine.proofs, len(delays) - 1)])
            mine.waits_for, mine.lease_until = f"PEMS could not be read back: {why}"[:300], None
            settlement.moves.keep(mine)
            attempt = Attempt.objects.filter(modification=mine).order_by("-epoch").first()
            settlement.note(Note(attempt) if attempt else None, OutcomeKind.READ_FAILED, why)
            work.record(events.ProofFailed(**subject(mine, "worker"), reason=why[:500]))
        settlement.close()


def landed(settlement: Settlement, row: Modification, read: PemsRecord | Gone) -> None:
    version = read.version if isinstance(read, PemsRecord) else row.expected_version
    confirm(settlement.moves, row, version=version, actor="worker", how="proof")
    settlement.confirmed[row.record_id] = row


def not_landed_yet(settlement: Settlement, row: Modification) -> None:
    """PEMS is where it was. On a guarded connection at most one of two identical requests can apply, so it is sent
    again, byte for byte; elsewhere a person decides."""
    moves = settlement.moves
    if row.state == State.DEAD:
        _as_wished(settlement, row, still_exposed=True)
    elif not row.organization.connection.guarded:
        _ask(settlement, row, ConflictKind.OVERTAKEN)
    elif row.started_at is None:
        requeue(moves, row, actor="worker", why="PEMS is where it was when the backup was taken")
        row.not_before, row.waits_for = None, ""
        moves.ring(row)
    else:
        burn(moves, row, error=row.error_message or "PEMS did not apply it", burnt=_burns(row))


def _burns(row: Modification) -> bool:
    """Whether its last try counts: not where it may never have been made, after a restore from a backup, or where the
    breaker says that the connection was in trouble."""
    connection = row.organization.connection
    return burns(
        started_at=row.started_at, is_closed=connection.breaker == Breaker.CLOSED, since=connection.breaker_since
    )


def not_landed(settlement: Settlement, row: Modification) -> None:
    """Somebody else's write took that version: ours never can. Compare with what is there now."""
    row.exposed = row.may_still_land = False
    if row.state == State.DEAD:
        _as_wished(settlement, row, still_exposed=False)
        return
    row.attempts += _burns(row)
    advance(settlement.moves, row, settlement.record_of(row), actor="worker")
    if row.state in IN_FLIGHT:
        requeue(settlement.moves, row, actor="worker", why="another write came first, in other fields")
    if row.state == State.QUEUED:
        row.not_before, row.waits_for = None, ""
        settlement.moves.ring(row)


def overtaken(settlement: Settlement, row: Modification, *, gone: bool) -> None:
    """It cannot be told whether ours landed before PEMS moved on: never resent by machine."""
    if gone:
        bury_record(settlement.record_of(row), settlement.work)
    if row.state == State.DEAD and row.read_back_for == ReadBackFor.DISCARD:
        _as_wished(settlement, row, still_exposed=False)
        return
    _ask(settlement, row, ConflictKind.EDIT_DELETED if gone else ConflictKind.OVERTAKEN)


def _ask(settlement: Settlement, row: Modification, kind: ConflictKind) -> None:
    record = settlement.record_of(row)
    theirs = {} if record.deleted_at else dict(record.fields)
    was_dead = row.state == State.DEAD
    conflict(
        settlement.moves,
        row,
        kind=kind,
        fields=tuple(row.changes),
        theirs=theirs,
        version=record.version,
        actor="worker",
        theirs_at=record.changed_at,
    )
    if was_dead:
        row.queued_at = settlement.work.now  # it left its lane when it died, and joins the tail


def _as_wished(settlement: Settlement, row: Modification, *, still_exposed: bool) -> None:
    """A dead letter was read back and has not landed: now do what the person asked for."""
    moves, wish = settlement.moves, row.read_back_for
    row.may_still_land = False
    if wish == ReadBackFor.DISCARD:
        row.exposed = False
        withdraw(moves, row, actor=row.authorised_by.username, reason=row.discard_reason or "discarded")
        return
    settled: frozenset[str] = frozenset() if still_exposed else settled_since([row])[row.pk]
    why = "retried after reading back"
    queued = come_back(moves, row, settled=settled, actor=row.authorised_by.username, why=why)
    row.exposed, row.lease_until = still_exposed, None
    under_way = any(is_under_way(other) for other in settlement.lanes if other.record_id == row.record_id)
    if queued and not still_exposed and not under_way:  # else it is compared when that is settled
        advance(moves, row, settlement.record_of(row), actor="worker")
