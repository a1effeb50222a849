"""`make restore-drill`: lose the database while PEMS moves on, restore it from a dump and from base backup and WAL, and prove
that nothing in the backup is lost or written twice. The last line is JSON; exit 1 when something did not hold."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from deploy.drill.past import ROLES, Backups, Edit, Past, Report, command, options
from deploy.drill.present import Verdict, go_on
from deploy.local.stack import Stack
from deploy.sandbox.process import SandboxProcess

WAYS = ("dump", "wal")


def drill(place: Path, *, some: int, ways: Sequence[str] = WAYS, report: Report = print) -> dict[str, Verdict]:
    """`some` edits of each kind. By way of restoring."""
    with ExitStack() as ending, SandboxProcess(records=60 + 20 * some, rate_limit=10) as sandbox:
        ending.callback(_forget, place)
        edits, backups = _lose_a_database(place, sandbox, some, report)
        verdicts = {}
        for way in ways:
            report(f"Restoring from {way}.")
            _restore(place / way, backups, way)
            taken_at = backups.dumped_at if way == "dump" else backups.archived_at
            verdicts[way] = go_on(place / way, sandbox, edits, taken_at=taken_at)
        return verdicts


def _lose_a_database(place: Path, sandbox: SandboxProcess, some: int, report: Report) -> tuple[list[Edit], Backups]:
    primary = place / "primary"
    command(primary, "archive")
    stack = Stack(options(primary, sandbox, ROLES), report)
    stack.start()
    past = Past(place, sandbox, stack, report)
    try:
        past.begin()
        backups = past.live(some=some)
    finally:
        past.lose()
    report(f"The database is lost, {len(past.edits)} edits after its beginning.")
    return past.edits, backups


def _restore(var_dir: Path, backups: Backups, way: str) -> None:
    if way == "dump":
        command(var_dir, "restore-dump", backups.dump)
    else:
        command(var_dir, "restore-base", backups.base, backups.wal)


def _forget(place: Path) -> None:
    """Data that had to live elsewhere, because the account of PostgreSQL may not enter `place`."""
    for remembered in place.glob("*/postgres.home"):
        shutil.rmtree(json.loads(remembered.read_text()), ignore_errors=True)


def main(words: Sequence[str] = ()) -> int:
    """`words`: how many edits of each kind."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pems-sync-drill-") as place:
        verdicts = drill(Path(place), some=int(words[0]) if words else 10)
    for way, verdict in verdicts.items():
        for text in verdict.wrong:
            print(f"{way}: {text}")
    ok = not any(verdict.wrong for verdict in verdicts.values())
    figures = {way: verdict.figures for way, verdict in verdicts.items()}
    print(json.dumps({"ok": ok, **figures, "seconds": round(time.monotonic() - started, 1)}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
