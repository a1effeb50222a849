"""Rows of PEMS are stored forward, in as few statements as may be, with what they mean for open edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import IntegrityError

from pems_sync import crashpoints, events, proof
from pems_sync.client.base import PemsRecord
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import Modification, Organization, Record
from pems_sync.records import Moved, Shelf, is_forward, remember, shelf_for
from pems_sync.services import adjusting
from pems_sync.services.moves import Moves, lock_lanes
from pems_sync.services.progress import report_progress
from pems_sync.services.rebasing import is_under_way, rebase_open
from pems_sync.services.settlement import bury_record, portions, tell_of_foreign_changes


class Standing(NamedTuple):
    """Where a record stands. Its values stay in the database: most rows turn out to be unchanged."""

    pk: int
    pfa_id: str
    version: int
    content_hash: str
    deleted_at: datetime | None
    read_due_at: datetime | None


def apply(organization: Organization, shown: Sequence[PemsRecord]) -> int:
    """Store the rows that are news, with what that means for open edits. How many were.

    Rows of another organization are left out: the dialects refuse them already, row by row (N5)."""
    ours = [row for row in shown if row.organization_code == organization.code]
    latest = {row.pfa_id: row for row in sorted(ours, key=lambda row: row.version)}
    known = _known(organization, list(latest))
    news = [row for pfa_id, row in latest.items() if pfa_id not in known or _is_news(known[pfa_id], row)]
    keys = {pfa_id: standing.pk for pfa_id, standing in known.items()}
    changed = 0
    for portion in portions(news, record_id=lambda row: keys.get(row.pfa_id, 0), own_entries=1):
        changed += _apply_some(organization, portion, keys)
    if news:
        proof.weigh(organization, news)
    return changed


def _known(organization: Organization, pfa_ids: Sequence[str]) -> dict[str, Standing]:
    rows = Record.objects.for_organization(organization).filter(pfa_id__in=pfa_ids)
    return {row[1]: Standing(*row) for row in rows.values_list(*Standing._fields)}


def _is_news(standing: Standing, row: PemsRecord) -> bool:
    return is_forward(standing, version=row.version, hash_seen=row.content_hash)


def _apply_some(organization: Organization, news: Sequence[PemsRecord], keys: Mapping[str, int]) -> int:
    try:
        return _store(organization, news, keys)
    except IntegrityError:  # another pull created one of these records at the same time: it is known now
        known = _known(organization, [row.pfa_id for row in news])
        return _store(organization, news, {pfa_id: standing.pk for pfa_id, standing in known.items()})


@deadlock_retried
def _store(organization: Organization, news: Sequence[PemsRecord], keys: Mapping[str, int]) -> int:
    """`keys`: of the records that are known; the others are created."""
    with unit_of_work() as work:
        shelf = shelf_for(keys[row.pfa_id] for row in news if row.pfa_id in keys)
        _see(work, shelf, [row for row in news if row.pfa_id in keys])
        changed = _create(organization, [row for row in news if row.pfa_id not in keys]) + len(shelf.moved)
        crashpoints.reached("before_apply_commit", *(row.pfa_id for row in news))
    crashpoints.reached("after_apply_commit", *(row.pfa_id for row in news))
    return changed


def _create(organization: Organization, rows: Sequence[PemsRecord]) -> int:
    records = [
        Record(
            organization=organization, pfa_id=row.pfa_id, version=row.version, fields=row.fields,
            content_hash=row.content_hash, changed_at=row.updated_at, changed_by=row.updated_by,
        )
        for row in rows
    ]  # fmt: skip
    remember(Record.objects.bulk_create(records), {})
    return len(records)


def _see(work: UnitOfWork, shelf: Shelf, rows: Sequence[PemsRecord]) -> None:
    by_pfa_id = {record.pfa_id: record for record in shelf.records.values()}
    again = [by_pfa_id[row.pfa_id] for row in rows if row.version == by_pfa_id[row.pfa_id].version]
    own = adjusting.made_by_us(again)
    for row in rows:
        record = by_pfa_id[row.pfa_id]
        shelf.see(record, row, made_by=own[record.pk].pk if record.pk in own else None)
    _face_open(work, [move.record for move in shelf.moved], shelf.moved, own)
    shelf.save()


def _face_open(
    work: UnitOfWork, records: Sequence[Record], moved: Sequence[Moved], own: dict[int, Modification] | None = None
) -> None:
    """What is open on these records looks at them. Under way: classified when it settles, as what moved may be its own.
    `own`: by record, the confirmed write that made the version stored; shown again, it is an echo (K6)."""
    lanes = lock_lanes([record.pk for record in records])
    echoes = {move.record.pk: (own or {})[move.record.pk] for move in moved if move.modification_id}
    for move in moved:
        if move.record.pk in echoes:
            adjusting.adjust(work, echoes[move.record.pk], move.record)
    moves = Moves(work)
    rebase_open(moves, records, lanes, actor="inbound", confirmed=echoes)
    busy = {row.record_id for row in lanes if is_under_way(row)}
    for move in moved:
        if move.record.pk not in busy:
            echo = echoes.get(move.record.pk)
            tell_of_foreign_changes(work, move.record, move.before, echo.adjusted if echo else {})
    jobs = {row.job_id for row in moves.rows.values() if row.job_id}
    moves.flush()
    report_progress(work, jobs)


def mark_gone(record: Record) -> None:
    """PEMS no longer knows it: open edits of it become conflicts, drafts are warned."""
    bury([record.pk])


@deadlock_retried
def bury(record_ids: Sequence[int]) -> int:
    """As `mark_gone`, for as many records as one transaction may journal. How many were not buried before."""
    with unit_of_work() as work:
        shelf = shelf_for(record_ids)
        present = [record for record in shelf.records.values() if record.deleted_at is None]
        for record in present:
            bury_record(record, work)
            work.record(
                events.RecordGone(
                    organization_id=record.organization_id, actor="inbound", pfa_id=record.pfa_id,
                    before={"version": record.version},
                )
            )  # fmt: skip
        Record.objects.filter(pk__in=record_ids, missed_sweeps__gt=0).update(missed_sweeps=0)
        _face_open(work, list(shelf.records.values()), ())
    return len(present)


@deadlock_retried
def revive(record: Record, shown: PemsRecord, *, actor: str) -> None:
    """PEMS shows a record at the very version it was given up at here. Only on a read of its own, made just now: a page
    may be older than the tombstone, and changes nothing."""
    with unit_of_work() as work:
        for kept in shelf_for([record.pk]).records.values():
            if kept.deleted_at is not None and kept.version == shown.version:
                Record.objects.filter(pk=kept.pk).update(deleted_at=None)
                work.record(
                    events.RecordRevived(
                        organization_id=kept.organization_id, actor=actor, pfa_id=kept.pfa_id,
                        after={"version": kept.version},
                    )
                )  # fmt: skip
