"""THE STORY: a claim becomes a request, and the answer becomes a state.

    held rows ─► authorise ─► reserve a slot ─► start (attempts written, fenced) ─► enter the slot ─► push ─► settle

No transaction is open across a network call. Whatever stops a worker here, the rows say what is known: without a
started attempt nothing was sent, with one the outcome is unknown until PEMS has been read back (PROTOCOL.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never
from uuid import UUID

import structlog

from pems_sync import crashpoints, dispatch
from pems_sync.client.base import (
    BatchAbsent,
    BatchRefused,
    Busy,
    Confirmed,
    Drifted,
    Fault,
    FaultKind,
    Gone,
    Missing,
    Outcome,
    PemsClient,
    PemsRecord,
    Rejected,
    Unknown,
    Write,
)
from pems_sync.client.connect import client_for, pace_for
from pems_sync.client.pace import LEAD_SECONDS, NoSlot, Pace, PaceUnavailableError, Slot
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.maintenance import Watch
from pems_sync.models import Attempt, Connection, Modification
from pems_sync.proof import judge_drifted
from pems_sync.scheduling import may_send
from pems_sync.services import breaking, connections
from pems_sync.services.authorising import bury_unauthorised
from pems_sync.services.crashing import encoded
from pems_sync.services.sending import held_rows, renew_lease, start
from pems_sync.services.settlement import Note
from pems_sync.services.settling import (
    Refusal,
    hand_back,
    notes_of,
    settle_confirmed,
    settle_drift,
    settle_fault,
    settle_refused,
    settle_split,
)
from pems_sync.turns import Turns, note_fault

log = structlog.get_logger(__name__)

BODY_LIMIT_BYTES = 900_000
START_SECONDS_PER_ROW = 0.0005
"""Writing down the attempts of a large batch takes a while: its slot is reserved that much later, not missed."""
ENTER_PATIENCE_SECONDS = 3.0
"""For other slots, after a missed one. Part of the lease from the start on: nothing is renewed on the way, which would only
miss the next slot, too."""


def deliver(delivery_id: UUID) -> None:
    """Send one claim. Called by a message that may come twice, late, or not at all."""
    held = held_rows(delivery_id)
    if not held:
        return
    connection = held[0].organization.connection
    try:
        _deliver(delivery_id, held, connection)
    finally:
        if connection.breaker_canary == delivery_id:
            breaking.give_back(connection)


def _deliver(delivery_id: UUID, held: list[Modification], connection: Connection) -> None:
    organization = held[0].organization
    if organization.paused_at or organization.restored_at or not may_send(connection, delivery_id=delivery_id):
        hand_back(held, why="the queue was paused, or PEMS rests or is silent, since these edits were claimed")
        return
    rows = bury_unauthorised(held)
    if not rows:
        dispatch.ring(connection.pk)  # a place in the pace is free again
        return
    try:
        Delivery(connection, client_for(connection), pace_for(connection)).run(rows)
    except SecretsUnavailableError as error:
        connections.faulted(connection, Fault(FaultKind.CREDENTIALS, str(error)))
        hand_back(rows, why="the connection's credentials cannot be read")
    except PaceUnavailableError as error:
        hand_back(rows, why=str(error))


class Delivery:
    """One request on one connection."""

    def __init__(self, connection: Connection, client: PemsClient, pace: Pace) -> None:
        self.connection = connection
        self.client = client
        self.pace = pace

    def run(self, rows: list[Modification]) -> None:
        rows, writes = self._fitting(*encoded(rows))
        if not rows:
            dispatch.ring(self.connection.pk)
            return
        slot = self.pace.reserve(lead_seconds=LEAD_SECONDS + START_SECONDS_PER_ROW * len(rows))
        if isinstance(slot, NoSlot):
            self._wait_for(slot, rows)
            return
        crashpoints.reached("after_reserve", *(row.pfa_id for row in rows))
        until_sent = slot.in_seconds + ENTER_PATIENCE_SECONDS
        attempts = start(rows, writes, total_seconds=until_sent + self.client.total_seconds)
        breaking.prolong_canary(self.connection, patience_seconds=until_sent + self.client.total_seconds + 5)
        dispatch.ring(self.connection.pk)  # while this one is under way, the next may be claimed
        crashpoints.reached("after_start", *(row.pfa_id for row in rows))
        mine = [(row, write) for row, write in zip(rows, writes, strict=True) if row.pk in attempts]
        if mine and self._enter(slot, [row for row, _ in mine], attempts):
            self._push([row for row, _ in mine], [write for _, write in mine], attempts)

    def _fitting(self, rows: list[Modification], writes: list[Write]) -> tuple[list[Modification], list[Write]]:
        """As many as go into one body; the rest goes back, unsent."""
        count = len(writes)
        while count > 1 and self.client.push_bytes(writes[:count]) > BODY_LIMIT_BYTES:
            count //= 2
        if count < len(rows):
            hand_back(rows[count:], why="the request was full")
        return rows[:count], writes[:count]

    def _wait_for(self, slot: NoSlot, rows: list[Modification]) -> None:
        hand_back(rows, why="the pace has no room yet")
        if slot.seconds > 1.5:  # held, or just restarted: nothing need be claimed before
            connections.rest(self.connection, seconds=slot.seconds - 0.5, reason="the pace is held")
        dispatch.ring(self.connection.pk, in_seconds=slot.seconds)

    def _enter(self, slot: Slot, rows: list[Modification], attempts: dict[UUID, Attempt]) -> bool:
        """At the slot's time, or in a later slot when that one was missed. False: the rows went back, unsent."""
        watch, why = Watch(self.connection), "the pace had no room any more"
        try:
            entered = self.pace.enter_or_later(slot, patience_seconds=ENTER_PATIENCE_SECONDS)
        except PaceUnavailableError:
            entered = False
        if entered and watch.closed():
            entered, why = False, "a maintenance window of PEMS has begun"
        if not entered:
            hand_back(rows, why=why, attempts=attempts)
        return entered

    def _push(self, rows: list[Modification], writes: list[Write], attempts: dict[UUID, Attempt]) -> None:
        reply = self.client.push(writes)
        crashpoints.reached("after_reply", *(row.pfa_id for row in rows))
        notes = notes_of(reply, rows, attempts)
        match reply.outcomes:
            case Fault() as fault:
                self._fault(rows, fault, notes)
            case BatchAbsent():
                connections.answered(self.connection)
                connections.batch_is_absent(self.connection)
                settle_split(rows, notes, why="this PEMS has no batch call", largest=None)
            case BatchRefused(message):
                connections.answered(self.connection)
                settle_split(rows, notes, why=message, largest=max(1, len(rows) // 2))
            case tuple() as outcomes:
                connections.replied(self.connection, outcomes)
                self._settle(rows, outcomes, notes)
            case _:
                assert_never(reply.outcomes)

    def _fault(self, rows: list[Modification], fault: Fault, notes: Mapping[UUID, Note]) -> None:
        wait = note_fault(self.connection, self.pace, fault)
        settle_fault(rows, fault, notes, wait_seconds=wait)

    def _settle(self, rows: Sequence[Modification], outcomes: Sequence[Outcome], notes: Mapping[UUID, Note]) -> None:
        pairs = list(zip(rows, outcomes, strict=True))
        settle_confirmed([(row, what) for row, what in pairs if isinstance(what, Confirmed)], notes)
        refused: list[tuple[Modification, Refusal]] = [
            (row, what) for row, what in pairs if isinstance(what, Rejected | Busy | Unknown)
        ]
        settle_refused(refused, notes)
        drifted = [(row, what) for row, what in pairs if isinstance(what, Drifted | Gone)]
        for position, (row, what) in enumerate(drifted):
            self._meet(row, what, notes[row.pk], rest=[other for other, _ in drifted[position:]])

    def _meet(self, row: Modification, what: Drifted | Gone, note: Note, *, rest: list[Modification]) -> None:
        """PEMS is elsewhere: read where, then compare. An unreadable record is tried again later; nothing is burnt."""
        found: PemsRecord | Gone | None = what if isinstance(what, Gone) else self._read(row, rest)
        if found is None:
            fault = Fault(FaultKind.UNAVAILABLE, "PEMS has a newer version, which could not be read yet")
            settle_fault([row], fault, {row.pk: note}, wait_seconds=2.0)
        elif row.exposed:
            judge_drifted(row, found, note)
        else:
            settle_drift(row, found, note)

    def _read(self, row: Modification, rest: list[Modification]) -> PemsRecord | Gone | None:
        renew_lease(rest, total_seconds=2 * self.client.total_seconds)
        turns = Turns(self.connection, self.client, self.pace)
        code, patience_seconds = row.organization.code, self.client.total_seconds / 2
        try:
            found = turns.read(organization_code=code, pfa_id=row.pfa_id, patience_seconds=patience_seconds)
        except PaceUnavailableError:
            return None
        if isinstance(found, Missing):
            return Gone()
        return found if isinstance(found, PemsRecord) else None
