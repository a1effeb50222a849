"""One request to PEMS at a time, each in its slot of the pace: pages of the list, and single records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import sleep
from typing import Self

import structlog

from pems_sync.client.base import Fault, FaultKind, Page, PemsClient, ReadFailed, ReadResult
from pems_sync.client.connect import client_for, pace_for
from pems_sync.client.pace import Pace
from pems_sync.errors import PemsUnavailableError
from pems_sync.models import Modification, Organization
from pems_sync.services import connections
from pems_sync.states import State

log = structlog.get_logger(__name__)

PAGE_ROWS = 1000
TRIES_PER_PAGE = 5
LONGEST_WAIT_SECONDS = 20.0
"""For a slot of the pace, within one try."""
LONGEST_PAUSE_SECONDS = 10.0
_PAUSES = (FaultKind.CREDENTIALS, FaultKind.ADDRESS)


class PageFailedError(PemsUnavailableError):
    """A page of the list cannot be had."""

    def __init__(self, message: str, fault: Fault | None) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True)
class Reader:
    """Reads for one organization."""

    organization: Organization
    client: PemsClient
    pace: Pace

    @classmethod
    def of(cls, organization: Organization) -> Self:
        """Raises SecretsUnavailableError."""
        connection = organization.connection
        return cls(organization, client_for(connection), pace_for(connection))

    def page(
        self, *, since: datetime | None = None, cursor: str = "", before_each_try: Callable[[], None] = lambda: None
    ) -> Page:
        """Raises PageFailedError when five tries brought none, or at once where trying again is no use."""
        failed = ReadFailed(None, "the pace had no room")
        for attempt in range(TRIES_PER_PAGE):
            before_each_try()
            if not self._enter():
                continue
            page = self.client.page(
                organization_code=self.organization.code, updated_since=since, cursor=cursor or None, limit=PAGE_ROWS
            )
            if isinstance(page, Page):
                connections.answered(self.organization.connection)
                return page
            failed = page
            self._note(failed)
            if failed.fault is not None and failed.fault.kind in _PAUSES:
                break
            sleep(min(2.0**attempt, LONGEST_PAUSE_SECONDS))
        raise self._error(failed)

    def one(self, pfa_id: str) -> ReadResult:
        """A single record, read now."""
        if not self._enter():
            return ReadFailed(None, "the pace had no room")
        found = self.client.read(organization_code=self.organization.code, pfa_id=pfa_id)
        if isinstance(found, ReadFailed):
            self._note(found)
        else:
            connections.answered(self.organization.connection)
        return found

    def _enter(self) -> bool:
        """While edits wait, inbound takes at most a fifth of the pace."""
        rows = Modification.objects.filter(organization__connection=self.organization.connection_id)
        edits_wait = rows.filter(state=State.QUEUED).exists()
        return self.pace.wait(inbound=edits_wait, patience_seconds=LONGEST_WAIT_SECONDS)

    def _note(self, failed: ReadFailed) -> None:
        log.warning("read_failed", organization=self.organization.slug, reason=failed.message)
        if failed.fault is not None:
            connections.faulted(self.organization.connection, failed.fault)

    def _error(self, failed: ReadFailed) -> PageFailedError:
        where = self.organization.connection.base_url
        advice = f"Check that PEMS runs at {where}, then pull again."
        return PageFailedError(f"{self.organization.slug}: {failed.message}. {advice}", failed.fault)
