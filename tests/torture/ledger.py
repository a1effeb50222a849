"""What the database says in the end, read by SQL: edits, their attempts, what people decided, socket events."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

OPEN = ("queued", "sending", "unknown")
DECISIONS = ("conflict_resolved", "conflict_reopened", "read_back_asked")
"""Kinds of the journal by which a person decided anew on an edit; a retried dead letter is known by its way."""


@dataclass
class Edit:
    """One committed modification."""

    id: str
    organization: str
    pfa_id: str
    state: str
    dead_reason: str | None
    how: str
    """How it was confirmed: answer, proof, converged; empty while it is not."""
    changes: dict[str, Any]
    author: str
    finished_at: datetime | None
    error: str
    may_still_land: bool
    attempts: list[tuple[datetime, str, int]] = field(default_factory=list)
    """(started, idempotency key, version sent)"""
    decisions: list[datetime] = field(default_factory=list)

    def segment(self, at: datetime) -> int:
        """How many times a person had decided anew by then."""
        return sum(decided <= at for decided in self.decisions)


def edits(database_url: str) -> dict[str, Edit]:
    with psycopg.connect(database_url, row_factory=dict_row) as database:
        found = {str(row["id"]): _edit(row) for row in database.execute(_EDITS)}
        for row in database.execute(_ATTEMPTS):
            found[str(row["modification_id"])].attempts.append(
                (row["started_at"], str(row["idempotency_key"]), row["version_sent"])
            )
        for row in database.execute(_DECISIONS, [list(DECISIONS)]):
            if str(row["modification_id"]) in found:
                found[str(row["modification_id"])].decisions.append(row["recorded_at"])
    return found


def _edit(row: dict[str, Any]) -> Edit:
    return Edit(
        id=str(row["id"]), organization=row["slug"], pfa_id=row["pfa_id"], state=row["state"],
        dead_reason=row["dead_reason"], how=row["how"] or "", changes=row["changes"], author=row["username"],
        finished_at=row["finished_at"], may_still_land=row["exposed"] or row["may_still_land"],
        error=f"{row['error_code']} {row['error_message']} {row['waits_for']}".strip(),
    )  # fmt: skip


def events(database_url: str) -> dict[str, list[tuple[int, str, str | None]]]:
    """By organization, in order: (seq, type on the socket, modification id)."""
    told: defaultdict[str, list[tuple[int, str, str | None]]] = defaultdict(list)
    with psycopg.connect(database_url) as database:
        for slug, seq, wire_type, modification_id in database.execute(_EVENTS):
            told[slug].append((seq, wire_type, str(modification_id) if modification_id else None))
    return told


def open_edits(database_url: str) -> list[tuple[str, str, str]]:
    """(organization, modification id, state) of what is still on its way."""
    with psycopg.connect(database_url, connect_timeout=5) as database:
        rows = database.execute(_OPEN, [list(OPEN)]).fetchall()
    return [(slug, str(pk), state) for slug, pk, state in rows]


_EDITS = """
    SELECT m.id, o.slug, m.pfa_id, m.state, m.dead_reason, m.changes, u.username, m.finished_at, m.exposed,
           m.may_still_land, m.error_code, m.error_message, m.waits_for,
           (SELECT j.after->>'how' FROM pems_sync_journalentry j
             WHERE j.modification_id = m.id AND j.kind = 'modification_confirmed' LIMIT 1) AS how
    FROM pems_sync_modification m JOIN pems_sync_organization o ON o.id = m.organization_id
    JOIN auth_user u ON u.id = m.author_id WHERE m.committed_at IS NOT NULL
"""
_ATTEMPTS = """
    SELECT modification_id, started_at, idempotency_key, version_sent FROM pems_sync_attempt ORDER BY started_at
"""
_DECISIONS = """
    SELECT modification_id, recorded_at FROM pems_sync_journalentry
    WHERE modification_id IS NOT NULL AND (kind = ANY(%s)
       OR (before->>'state' IN ('dead', 'conflicted') AND after->>'state' = 'queued'))
"""
_EVENTS = """
    SELECT o.slug, j.seq, j.wire_type, j.modification_id FROM pems_sync_journalentry j
    JOIN pems_sync_organization o ON o.id = j.organization_id WHERE j.seq IS NOT NULL ORDER BY o.slug, j.seq
"""
_OPEN = """
    SELECT o.slug, m.id, m.state FROM pems_sync_modification m JOIN pems_sync_organization o ON o.id = m.organization_id
    WHERE m.state = ANY(%s)
"""
