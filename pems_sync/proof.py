"""Unknown outcomes: read PEMS back and prove what happened (D1; PROTOCOL.md, *Unknown: proof*).

`judge` is the table of the protocol, pure. `prove` reads for rows that are due, in the pace, and carries the verdict out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import assert_never
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from pems_sync import crashpoints
from pems_sync.client.base import Gone, Missing, Page, PemsRecord, ReadFailed, ReadResult
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.fields import Value
from pems_sync.journal import deadlock_retried, unit_of_work
from pems_sync.models import Attempt, Modification, Organization
from pems_sync.models.attempt import OutcomeKind
from pems_sync.records import values_at
from pems_sync.services import proving
from pems_sync.services.settlement import Note, Settlement
from pems_sync.services.transitions import alone
from pems_sync.states import State
from pems_sync.turns import NotAsked, Turns

LIST_FROM = 5
"""From this many rows of one batch on, one list call comes before the single reads."""
OVERLAP = timedelta(seconds=30)
PATIENCE_SECONDS = 60.0


class Verdict(Enum):
    NOT_LANDED_YET = "not landed yet"
    LANDED = "landed"
    NOT_LANDED = "another write came first"
    OVERTAKEN = "overtaken"
    GONE = "the record is gone"


@dataclass(frozen=True)
class Sent:
    """What was sent, as far as the proof needs it."""

    version: int
    changes: Mapping[str, Value]
    modified_by: str


def judge(sent: Sent, *, before: Mapping[str, Value] | None, read: PemsRecord | Gone) -> Verdict:
    """What a clean read proves. `before`: the record's values at the version sent, where they were seen."""
    if isinstance(read, Gone):
        return Verdict.GONE
    if read.version <= sent.version:
        return Verdict.NOT_LANDED_YET
    if all(read.fields.get(name) == value for name, value in sent.changes.items()):
        return Verdict.LANDED
    if read.version == sent.version + 1 and _visibly_not_ours(sent, before, read):
        return Verdict.NOT_LANDED
    return Verdict.OVERTAKEN


def _visibly_not_ours(sent: Sent, before: Mapping[str, Value] | None, read: PemsRecord) -> bool:
    if read.updated_by != sent.modified_by:
        return True
    if before is None:
        return False
    changed = {name for name, value in read.fields.items() if before.get(name) != value}
    return bool(changed - set(sent.changes))


def prove(modification_ids: Sequence[UUID]) -> int:
    """Read back for those of these rows that are still due. How many were decided or put off."""
    rows = proving.take(modification_ids, total_seconds=float(settings.PEMS_REQUEST_TIMEOUT))
    if not rows:
        return 0
    try:
        reader = _Reader(Turns.of(rows[0].organization.connection))
        crashpoints.reached("before_read", *(row.pfa_id for row in rows))
        early = reader.listed(rows)
        for place, row in enumerate(rows):
            found = early.get(row.pfa_id) or reader.read(row)
            if isinstance(found, NotAsked):
                proving.leave(rows[place:])
                return place
            crashpoints.reached("after_read", row.pfa_id)
            carry_out(row, found)
    except (SecretsUnavailableError, PaceUnavailableError) as error:
        for row in rows:
            carry_out(row, ReadFailed(None, str(error)))
    return len(rows)


@dataclass(frozen=True)
class _Reader:
    """Reads of one connection."""

    turns: Turns

    def listed(self, rows: Sequence[Modification]) -> dict[str, PemsRecord]:
        """A lost batch: what one list call shows beyond the version sent. The rest is read singly."""
        if len(rows) < LIST_FROM:
            return {}
        code = rows[0].organization.code
        since = min(row.started_at or row.unknown_since or row.saved_at for row in rows) - OVERLAP
        page = self.turns.page(organization_code=code, updated_since=since, patience_seconds=PATIENCE_SECONDS)
        if not isinstance(page, Page):
            return {}
        sent = {row.pfa_id: row.expected_version for row in rows}
        return {each.pfa_id: each for each in page.records if each.version > sent.get(each.pfa_id, each.version)}

    def read(self, row: Modification) -> ReadResult:
        code = row.organization.code
        return self.turns.read(organization_code=code, pfa_id=row.pfa_id, patience_seconds=PATIENCE_SECONDS)


def carry_out(row: Modification, read: ReadResult) -> None:
    """The verdict on one row becomes its next state. A failed read proves nothing: later again."""
    if isinstance(read, ReadFailed):
        proving.put_off(row, why=read.message)
    else:
        _decide(row, Gone() if isinstance(read, Missing) else read, None)


def judge_drifted(row: Modification, found: PemsRecord | Gone, note: Note | None) -> None:
    """An exposed row whose resend was answered 409: the first request may have been the one that landed."""
    _decide(row, found, note)


def weigh(organization: Organization, shown: Sequence[PemsRecord]) -> None:
    """Inbound saw these records: evidence for edits of them whose outcome is open, as good as a read of their own."""
    by_pfa_id = {record.pfa_id: record for record in shown}
    open_ones = Q(state=State.UNKNOWN) | Q(state=State.QUEUED, exposed=True, is_head=True)
    rows = Modification.objects.for_organization(organization).filter(open_ones, pfa_id__in=by_pfa_id)
    for row in rows:
        if by_pfa_id[row.pfa_id].version > row.expected_version:
            _decide(row, by_pfa_id[row.pfa_id], None, states=_WEIGHED)


_WEIGHED = frozenset({State.UNKNOWN, State.QUEUED})


@deadlock_retried
def _decide(
    row: Modification,
    read: PemsRecord | Gone,
    note: Note | None,
    *,
    states: frozenset[State] = proving.JUDGED,
) -> None:
    with unit_of_work() as work:
        settlement = Settlement.open(work, [row], states=states)
        for mine in settlement.mine:
            attempt = Attempt.objects.filter(modification=mine).order_by("-epoch").first()
            if mine.state == State.QUEUED and not mine.exposed:
                continue  # decided meanwhile
            verdict = judge(_sent(mine, attempt), before=_before(mine, settlement), read=read)
            settlement.note(note, OutcomeKind.DRIFT)
            settlement.note(Note(attempt) if attempt else None, _LEDGER[verdict], verdict.value)
            _carry(settlement, mine, verdict, read)
        settlement.close()
        crashpoints.reached("before_verdict_commit", row.pfa_id)
    crashpoints.reached("after_verdict_commit", row.pfa_id)


_LEDGER = {
    Verdict.NOT_LANDED_YET: OutcomeKind.NOT_LANDED,
    Verdict.NOT_LANDED: OutcomeKind.NOT_LANDED,
    Verdict.LANDED: OutcomeKind.LANDED,
    Verdict.OVERTAKEN: OutcomeKind.OVERTAKEN,
    Verdict.GONE: OutcomeKind.OVERTAKEN,
}


def _sent(row: Modification, attempt: Attempt | None) -> Sent:
    """By the last attempt; a row restored from a backup may have been sent since, at the version it then stood at."""
    if attempt is None or attempt.version_sent < row.expected_version:
        return Sent(row.expected_version, row.changes, row.authorised_by.username)
    return Sent(attempt.version_sent, row.changes, str(attempt.request.get("modifiedBy", "")))


def _before(row: Modification, settlement: Settlement) -> Mapping[str, Value] | None:
    return values_at(settlement.record_of(row), row.expected_version)


def _carry(settlement: Settlement, row: Modification, verdict: Verdict, read: PemsRecord | Gone) -> None:
    if isinstance(read, PemsRecord):
        own = row.pk if verdict is Verdict.LANDED and read.version == row.expected_version + 1 else None
        settlement.shelf.see(settlement.record_of(row), read, made_by=own)
    with alone(settlement.moves, row):
        match verdict:
            case Verdict.NOT_LANDED_YET:
                proving.not_landed_yet(settlement, row)
            case Verdict.LANDED:
                proving.landed(settlement, row, read)
            case Verdict.NOT_LANDED:
                proving.not_landed(settlement, row)
            case Verdict.OVERTAKEN | Verdict.GONE:
                proving.overtaken(settlement, row, gone=verdict is Verdict.GONE)
            case _:
                assert_never(verdict)
