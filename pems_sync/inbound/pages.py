"""One request to PEMS at a time, each in its slot of the pace: pages of the list, and single records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import sleep
from typing import Self, TypeVar

import structlog

from pems_sync.client.base import Fault, FaultKind, Page, PemsClient, ReadFailed, ReadResult
from pems_sync.client.connect import client_for, pace_for
from pems_sync.client.pace import Pace
from pems_sync.errors import PemsUnavailableError
from pems_sync.models import Modification, Organization
from pems_sync.states import State
from pems_sync.turns import NO_ROOM, MaintenanceNow, NotAsked, Turns

Shown = TypeVar("Shown")

log = structlog.get_logger(__name__)

PAGE_ROWS = 1000
TRIES_PER_PAGE = 5
WAITS, WAIT_SECONDS = 4, 5.0
"""For a slot of the pace, within one try; the lease is renewed before each of them."""
LONGEST_PAUSE_SECONDS = 10.0
_PAUSES = (FaultKind.CREDENTIALS, FaultKind.ADDRESS)


class PageFailedError(PemsUnavailableError):
    """A page of the list cannot be had."""

    def __init__(self, message: str, fault: Fault | None) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True)
class Reader:
    """Reads for one organization. `keep` renews the lease they are made under, before whatever may take long."""

    organization: Organization
    client: PemsClient
    pace: Pace
    keep: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, organization: Organization, *, keep: Callable[[], None] = lambda: None) -> Self:
        """Raises SecretsUnavailableError."""
        connection = organization.connection
        return cls(organization, client_for(connection), pace_for(connection), keep)

    def page(self, *, since: datetime | None = None, cursor: str = "") -> Page:
        """Raises PageFailedError when five tries brought none, or at once where trying again is no use."""
        failed: ReadFailed = NO_ROOM
        for attempt in range(TRIES_PER_PAGE):
            page = self._in_turn(
                lambda inbound: self._turns().page(
                    organization_code=self.organization.code, updated_since=since, cursor=cursor or None,
                    limit=PAGE_ROWS, patience_seconds=WAIT_SECONDS, inbound=inbound,
                )
            )  # fmt: skip
            if isinstance(page, Page):
                return page
            failed = page
            if failed is NO_ROOM:
                continue
            self._tell(failed)
            if _is_no_use(failed):
                break
            sleep(min(2.0**attempt, LONGEST_PAUSE_SECONDS))
        raise self._error(failed)

    def one(self, pfa_id: str) -> ReadResult:
        """A single record, read now."""
        found = self._in_turn(
            lambda inbound: self._turns().read(
                organization_code=self.organization.code, pfa_id=pfa_id, patience_seconds=WAIT_SECONDS, inbound=inbound
            )
        )
        if isinstance(found, ReadFailed):
            self._tell(found)
        return found

    def _in_turn(self, request: Callable[[bool], Shown]) -> Shown | ReadFailed:
        """Asked again while there is no slot, under a lease that is renewed before each wait and after the request."""
        for _ in range(WAITS):
            self.keep()
            found = request(self._edits_wait())
            if found is not NO_ROOM:
                self.keep()
                return found
        return NO_ROOM

    def _turns(self) -> Turns:
        return Turns(self.organization.connection, self.client, self.pace)

    def _edits_wait(self) -> bool:
        """Then inbound takes at most a fifth of the pace."""
        rows = Modification.objects.filter(organization__connection=self.organization.connection_id)
        return rows.filter(state=State.QUEUED).exists()

    def _tell(self, failed: ReadFailed) -> None:
        log.warning("read_failed", organization=self.organization.slug, reason=failed.message)

    def _error(self, failed: ReadFailed) -> PageFailedError:
        where = self.organization.connection.base_url
        advice = f"Check that PEMS runs at {where}, then pull again."
        if isinstance(failed, MaintenanceNow):
            advice = "It is pulled when the window ends."
        return PageFailedError(f"{self.organization.slug}: {failed.message}. {advice}", failed.fault)


def _is_no_use(failed: ReadFailed) -> bool:
    """Whether trying again at once changes nothing."""
    return isinstance(failed, NotAsked) or (failed.fault is not None and failed.fault.kind in _PAUSES)
