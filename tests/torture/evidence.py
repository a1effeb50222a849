"""The story of an edit that went wrong: its row, attempts, journal, and what PEMS recorded of the record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row


def story(database_url: str, modification_id: str, audit: Sequence[dict[str, Any]]) -> list[str]:
    with psycopg.connect(database_url, row_factory=dict_row) as database:
        row = database.execute("SELECT * FROM pems_sync_modification WHERE id = %s", [modification_id]).fetchone()
        if row is None:
            return [f"{modification_id} is not in the database"]
        lines = [f"modification {modification_id}", f"  {_shown(row)}"]
        told = [(each["at"], each["line"]) for each in database.execute(_TOLD, {"id": modification_id})]
    told += [
        (entry["at"], f"PEMS     {entry['source']} {entry['operation']} v{entry['versionBefore']}→{entry['versionAfter']} "
         f"{entry['changes']} {entry['adjusted'] or ''} by {entry['modifiedBy']} key {entry['idempotencyKey']}")
        for entry in audit if entry["pfaId"] == row["pfa_id"]
    ]  # fmt: skip
    return [*lines, *(f"  {_time(at)} {line}" for at, line in sorted(told, key=lambda each: _time(each[0])))]


def _shown(row: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in row.items() if value not in (None, "", 0, [], {})}, default=str)


def _time(at: Any) -> str:
    return str(at).replace("T", " ")[11:26].rstrip("Z").ljust(15, "0")


_TOLD = """
    SELECT started_at AS at, 'attempt  epoch ' || epoch || ' v' || version_sent || ' of ' || batch_of || ' key '
           || idempotency_key || ' by ' || worker || ' ' || (request->>'changes') AS line
    FROM pems_sync_attempt WHERE modification_id = %(id)s
    UNION ALL
    SELECT o.at, 'outcome  epoch ' || a.epoch || ' ' || o.kind || ' ' || coalesce(o.status::text, '') || ' ' || o.detail
    FROM pems_sync_attemptoutcome o JOIN pems_sync_attempt a ON a.id = o.attempt_id WHERE a.modification_id = %(id)s
    UNION ALL
    SELECT recorded_at, 'journal  ' || kind || ' by ' || actor || ' ' || coalesce(before::text, '') || ' → '
           || coalesce(after::text, '') || ' ' || reason
    FROM pems_sync_journalentry WHERE modification_id = %(id)s
    ORDER BY 1
"""
