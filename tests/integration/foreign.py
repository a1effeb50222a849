"""Somebody in PEMS changes a record, and inbound shows it."""

from __future__ import annotations

from typing import Any

from pems_sync import inbound
from pems_sync.client.base import PemsRecord
from pems_sync.clock import database_now
from pems_sync.models import Record


def shown_by_pems(record: Record, **fields: Any) -> None:
    """One version on, with these fields. `record` follows."""
    record.refresh_from_db()
    now = {**record.fields, **fields}
    seen = PemsRecord(record.pfa_id, record.organization.code, record.version + 1, database_now(), "pems.user", now)
    inbound.apply(record.organization, [seen])
    record.refresh_from_db()
