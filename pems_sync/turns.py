"""A request to PEMS in its turn: outside of maintenance, in a slot of the pace, and what a fault means for everybody.

Reads of all kinds come through here; writes have a longer story (delivery.py) and share `note_fault`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

from pems_sync.client.base import Fault, FaultKind, Page, PemsClient, ReadFailed, ReadResult
from pems_sync.client.connect import client_for, pace_for
from pems_sync.client.pace import Pace, PaceUnavailableError
from pems_sync.maintenance import Watch, notice
from pems_sync.models import Connection
from pems_sync.models.organization import Breaker
from pems_sync.services import breaking, connections

Shown = TypeVar("Shown")

HOLD_SECONDS = 1.0
"""After a 429 that does not say how long."""
NO_ROOM = ReadFailed(None, "the pace had no room")


@dataclass(frozen=True)
class NotAsked(ReadFailed):
    """Nothing was asked, and trying again at once is no use."""


@dataclass(frozen=True)
class MaintenanceNow(NotAsked):
    """Not before the window ends."""


SILENT = NotAsked(None, "PEMS does not answer, so it is asked nothing for the moment")


@dataclass(frozen=True)
class Turns:
    """The reads of one connection. Each waits for its slot, and may raise PaceUnavailableError."""

    connection: Connection
    client: PemsClient
    pace: Pace

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """Raises SecretsUnavailableError."""
        return cls(connection, client_for(connection), pace_for(connection))

    def read(
        self, *, organization_code: str, pfa_id: str, patience_seconds: float, inbound: bool = False
    ) -> ReadResult:
        return self._take(
            lambda: self.client.read(organization_code=organization_code, pfa_id=pfa_id), patience_seconds, inbound
        )

    def page(
        self,
        *,
        organization_code: str,
        updated_since: datetime | None,
        cursor: str | None = None,
        limit: int = 1000,
        patience_seconds: float,
        inbound: bool = False,
    ) -> Page | ReadFailed:
        return self._take(
            lambda: self.client.page(
                organization_code=organization_code, updated_since=updated_since, cursor=cursor, limit=limit
            ),
            patience_seconds,
            inbound,
        )

    def _take(
        self, request: Callable[[], Shown | ReadFailed], patience_seconds: float, inbound: bool
    ) -> Shown | ReadFailed:
        if not connections.let_through(self.connection, within_seconds=patience_seconds):
            return SILENT
        try:
            return self._ask(request, patience_seconds, inbound)
        finally:
            breaking.give_back(self.connection)

    def _ask(
        self, request: Callable[[], Shown | ReadFailed], patience_seconds: float, inbound: bool
    ) -> Shown | ReadFailed:
        watch = Watch(self.connection)
        if not self.pace.wait(inbound=inbound, patience_seconds=patience_seconds):
            return NO_ROOM
        if watch.closed():
            return MaintenanceNow(None, notice(self.connection) or "A maintenance window of PEMS was open")
        found = request()
        if not isinstance(found, ReadFailed):
            connections.answered(self.connection)
        elif found.fault is not None:
            note_fault(self.connection, self.pace, found.fault)
        else:
            connections.unread(self.connection, found)
        return found


def note_fault(connection: Connection, pace: Pace, fault: Fault) -> float:
    """A fault of one request, for the whole fleet (D11): 429 halves the pace and holds it for Retry-After, 503 holds it
    where it says how long, and lowers it when it comes thrice. Returns the seconds that the rows of the request shall wait."""
    with suppress(PaceUnavailableError):  # without Redis nothing is sent anyway
        _slow_down(connection, pace, fault)
    return connections.faulted(connection, fault)


def _slow_down(connection: Connection, pace: Pace, fault: Fault) -> None:
    if fault.kind is FaultKind.THROTTLED:
        pace.hold(fault.retry_after_seconds or HOLD_SECONDS)
        pace.lower()
    elif fault.kind is FaultKind.UNAVAILABLE:
        if fault.retry_after_seconds:
            pace.hold(fault.retry_after_seconds)
        if Connection.objects.filter(pk=connection.pk, breaker=Breaker.CLOSED).exists():
            pace.unavailable()  # an open breaker has slowed down enough
