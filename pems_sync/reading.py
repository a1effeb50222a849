"""PEMS as it is at this moment, for a person who is about to decide. What is read is stored forward, as by any pull."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

from pems_sync import crashpoints, inbound
from pems_sync.client.base import Missing, Page, ReadFailed
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.errors import PemsUnavailableError
from pems_sync.models import Organization, Record
from pems_sync.turns import NO_ROOM, Turns

MOST_SINGLE_READS = 20
MOST_PAGES, PAGE_ROWS = 10, 1000
PATIENCE_SECONDS = 10


def read_now(organization: Organization, records: Sequence[Record], *, since: datetime) -> None:
    """Bring these records up to date, outside of any transaction. Up to 20 are read one by one, at the pace; of more,
    what changed in PEMS after `since` is read as a list, at most ten pages of it: beyond those the stored values serve,
    and an edit based on them is compared with PEMS when it is sent, as any other. Raises PemsUnavailableError."""
    try:
        reader = _Reader(organization)
        if len(records) > MOST_SINGLE_READS:
            reader.read_list(since)
        else:
            for record in records:
                reader.read_one(record)
    except (PaceUnavailableError, SecretsUnavailableError) as error:
        raise PemsUnavailableError("PEMS cannot be asked at the moment. Try again later.") from error


class _Reader:
    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self.turns = Turns.of(organization.connection)

    def read_one(self, record: Record) -> None:
        crashpoints.reached("before_pems_read", record.pfa_id)
        code = self.organization.code
        found = self.turns.read(organization_code=code, pfa_id=record.pfa_id, patience_seconds=PATIENCE_SECONDS)
        crashpoints.reached("after_pems_read", record.pfa_id)
        if isinstance(found, ReadFailed):
            _give_up(found)
        elif isinstance(found, Missing):
            inbound.mark_gone(record)
        else:
            inbound.apply(self.organization, [found])

    def read_list(self, since: datetime) -> None:
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = self._page(since, cursor)
            inbound.apply(self.organization, page.records)
            if page.next_cursor in (None, cursor):
                return
            cursor = page.next_cursor

    def _page(self, since: datetime, cursor: str | None) -> Page:
        page = self.turns.page(
            organization_code=self.organization.code, updated_since=since, cursor=cursor, limit=PAGE_ROWS,
            patience_seconds=PATIENCE_SECONDS,
        )  # fmt: skip
        if isinstance(page, ReadFailed):
            _give_up(page)
        return page


def _give_up(failed: ReadFailed) -> NoReturn:
    if failed is NO_ROOM:
        raise PemsUnavailableError("PEMS is asked by others up to its limit. Try again in a moment.")
    raise PemsUnavailableError(f"PEMS cannot be read now ({failed.message}). Try again later.")
