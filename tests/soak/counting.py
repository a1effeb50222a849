"""In the end: every accepted edit accounted for, counted against the writes that PEMS applied."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import psycopg

from deploy.local.program import StackError
from deploy.local.stack import Stack
from deploy.sandbox.process import SandboxProcess
from tests.soak.load import ORGANIZATIONS

_STATES = "SELECT state, count(*) FROM pems_sync_modification WHERE committed_at IS NOT NULL GROUP BY state"
_CONFIRMED = """
SELECT modification.id, coalesce(array_agg(attempt.idempotency_key::text) FILTER (WHERE attempt.id IS NOT NULL), '{}'),
    exists(SELECT 1 FROM pems_sync_journalentry entry WHERE entry.modification_id = modification.id
        AND entry.kind = 'modification_confirmed' AND entry.after ->> 'how' = 'converged')
FROM pems_sync_modification modification LEFT JOIN pems_sync_attempt attempt ON attempt.modification_id = modification.id
WHERE modification.committed_at IS NOT NULL AND modification.state = 'confirmed' GROUP BY modification.id
"""
SETTLED = ("confirmed", "superseded", "withdrawn")


def count(stack: Stack, sandbox: SandboxProcess, *, accepted: int) -> dict[str, Any]:
    """Nobody may be editing any more. `lost`: accepted and in no final state, or confirmed and never applied; `differences`
    between both sides by `reconcile`; `unverified`: what `manage.py verify` found, in words."""
    with psycopg.connect(stack.services.database_url) as database:
        states: dict[str, int] = dict(database.execute(_STATES).fetchall())
        confirmed = database.execute(_CONFIRMED).fetchall()
    applied = Counter(entry["idempotencyKey"] for entry in sandbox.audit() if entry["source"] == "api")
    writes = [(sum(applied[key] for key in set(keys)), converged) for _, keys, converged in confirmed]
    stats = sandbox.stats()
    settled = sum(states.get(state, 0) for state in SETTLED)
    return {
        "edits": accepted,
        "confirmed": states.get("confirmed", 0),
        "superseded": states.get("superseded", 0),
        "withdrawn": states.get("withdrawn", 0),
        "lost": abs(accepted - settled) + sum(number == 0 and not converged for number, converged in writes),
        "appliedTwice": sum(number > 1 for number, _ in writes) + len(stats["keys"]["appliedMoreThanOnce"]),
        "limitViolations": stats["violations"],
        "peakRequestsPerSecond": stats["peakRequestsPerSecond"],
        "limit": stats["limit"],
        "differences": sum(_reconciled(stack, slug) for slug, _ in ORGANIZATIONS),
        "unverified": verified(stack),
    }


def verified(stack: Stack) -> list[str]:
    """What `manage.py verify` found wrong over all organizations: in the database, `_reconciled` looks into PEMS."""
    try:
        stack.manage("verify", "--all", "--json")
    except StackError as error:
        try:
            checks = _last_words(stack)["checks"]
        except (ValueError, KeyError, TypeError, IndexError):
            return [str(error)[-300:]]
        return [f"{check['id']}: {found}" for check in checks for found in check["found"]]
    return []


def _reconciled(stack: Stack, organization: str) -> int:
    try:
        stack.manage("reconcile", organization, "--json")
    except StackError:
        return int(_last_words(stack)["differences"])
    return int(_last_words(stack)["differences"])


def _last_words(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (stack.options.var_dir / "log" / "manage.log").read_text().strip().splitlines()[-1]
    )
    return found
