"""A restored database, from the runbook's first command to its last check."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from django.core.management import get_commands

from deploy.demo.planner import Planner
from deploy.drill.past import ORGANIZATION, Edit, options, until, wait_for_quiet
from deploy.local.asking import answer_status
from deploy.local.program import StackError
from deploy.local.stack import Stack
from deploy.sandbox.process import SandboxProcess

WITH_A_PERSON = ("conflict", "failed")
ENDED = ("synced", "superseded", "withdrawn", *WITH_A_PERSON)


@dataclass(frozen=True)
class Verdict:
    """`wrong`: a sentence for each rule that did not hold."""

    figures: dict[str, Any]
    wrong: list[str]


def go_on(place: Path, sandbox: SandboxProcess, edits: Sequence[Edit], *, taken_at: datetime | None) -> Verdict:
    """Start the stack on the database that was restored into `place`, by the runbook, and compare with what the drill knows.
    `taken_at`: of the backup, where the operator knows it."""
    before = Counter(map(_key, _ours(sandbox)))
    ours_last = {pfa_id for pfa_id, source in _last_writers(sandbox).items() if source == "api"}
    words = ("--backup-taken-at", taken_at.isoformat()) if taken_at else ()
    with Stack(options(place, sandbox, frozenset())) as stack:
        stack.manage("after_restore", *words)
        told = next(each for each in _last_line(place)["organizations"] if each["organizationId"] == ORGANIZATION)
        for role in ("worker-write", "worker-control", "beat", "web"):
            stack.start_role(role)
        until(lambda: answer_status(f"{stack.base_url}/api/health/ready") == http.client.OK, "web did not get ready")
        planner, admin = (
            Planner(stack.base_url, ORGANIZATION, name, stack.options.demo_password)
            for name in ("rio-planner", "rio-admin")
        )
        planner.sign_in()
        admin.sign_in()
        admin.call("POST", f"/api/pems/organizations/{ORGANIZATION}/resume")  # the backups hold the pause of their time
        wait_for_quiet(planner)
        rows = {row["id"]: row for row in planner.modifications() if row["status"] != "draft"}
        after = Counter(map(_key, _ours(sandbox)))
        return _judged(stack, told, edits, rows, before, after, ours_last)


def _judged(
    stack: Stack, told: dict[str, Any], edits: Sequence[Edit], rows: dict[str, dict[str, Any]],
    before: Counter[str], after: Counter[str], ours_last: set[str],
) -> Verdict:  # fmt: skip
    contained = [edit for edit in edits if edit.id in rows]
    lost = [edit for edit in edits if edit.id not in rows]
    statuses = Counter(rows[edit.id]["status"] for edit in contained)
    twice = [key for key, number in after.items() if number > 1]
    nowhere = [edit.id for edit in contained if rows[edit.id]["status"] == "synced" and not after[_key_of(edit)]]
    restless = [edit.id for edit in contained if rows[edit.id]["status"] not in ENDED]
    start, end = datetime.fromisoformat(told["lostFrom"]), datetime.fromisoformat(told["lostUntil"])
    unnamed = [edit.id for edit in lost if not start <= edit.committed_at <= end]
    differences = _differences(stack)
    reopened = _reopened(stack)
    unknown = len({edit.pfa_id for edit in lost if edit.pfa_id in ours_last})
    checks = {
        f"written twice: {twice}": not twice,
        f"confirmed, and not in PEMS: {nowhere}": not nowhere,
        f"neither confirmed nor with a person: {restless}": not restless,
        f"lost outside the window that was told: {unnamed}": not unnamed,
        "nothing was contained, or nothing lost: the drill proved nothing": bool(contained) and bool(lost),
        f"{differences} differences between here and PEMS": differences == 0,
        f"{reopened['unknownWrites']} lost writes were found in PEMS, not {unknown}": reopened["unknownWrites"]
        == unknown,
        "verify found something: see log/manage.log": _verified(stack),
    }
    figures = {
        "contained": len(contained), "lost": len(lost), "confirmed": statuses["synced"],
        "withAPerson": sum(statuses[word] for word in WITH_A_PERSON), "writtenTwice": len(twice),
        "sentAfterwards": (after - before).total(), "unknownWrites": reopened["unknownWrites"],
        "foundWritten": reopened["foundWritten"], "differences": differences,
        "lostFrom": told["lostFrom"], "lostUntil": told["lostUntil"],
    }  # fmt: skip
    return Verdict(figures, [text for text, holds in checks.items() if not holds])


def _ours(sandbox: SandboxProcess) -> list[dict[str, Any]]:
    return [entry for entry in sandbox.audit() if entry["source"] == "api"]


def _last_writers(sandbox: SandboxProcess) -> dict[str, str]:
    return {entry["pfaId"]: entry["source"] for entry in sandbox.audit()}


def _key(entry: dict[str, Any]) -> str:
    return json.dumps([entry["pfaId"], entry["changes"]], sort_keys=True)


def _key_of(edit: Edit) -> str:
    return json.dumps([edit.pfa_id, edit.values], sort_keys=True)


def _last_line(var_dir: Path) -> dict[str, Any]:
    log = (var_dir / "log" / "manage.log").read_text().strip().splitlines()
    told: dict[str, Any] = json.loads(log[-1])
    return told


def _differences(stack: Stack) -> int:
    stack.manage("reconcile", ORGANIZATION, "--json")
    return int(_last_line(stack.options.var_dir)["differences"])


def _verified(stack: Stack) -> bool:
    if "verify" not in get_commands():
        return True
    try:
        stack.manage("verify", "--all", "--pems", "--json")
    except StackError:
        return False
    return True


def _reopened(stack: Stack) -> dict[str, Any]:
    """What the journal says of the end of the restore."""
    sql = (
        "SELECT after FROM pems_sync_journalentry e JOIN pems_sync_organization o ON o.id = e.organization_id "
        "WHERE o.slug = %s AND kind = 'organization_restored' ORDER BY position DESC LIMIT 1"
    )
    with psycopg.connect(stack.services.database_url) as connection:
        found = connection.execute(sql, [ORGANIZATION]).fetchone()
    after: dict[str, Any] = found[0] if found else {"unknownWrites": -1, "foundWritten": -1}
    return after
