"""usage: python -m deploy.demo          (ITEMS=1000 edits; see README.md)"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.demo.afterwards import carry_on
from deploy.demo.edits import Edit, arrange_trouble, edits, usable
from deploy.demo.planner import DemoError, Planner
from deploy.demo.verdict import SETTLED, Verdict, judge
from deploy.local.options import ROLES, Options, number
from deploy.local.program import ROOT, StackError
from deploy.local.stack import Stack
from deploy.local.up import ToldToStop, ending_on_signals
from deploy.sandbox.process import SandboxProcess

ORGANIZATIONS = (("org-rio", "rio-planner", 2), ("org-portarthur", "portarthur-planner", 1))  # and their shares
QUIET_SECONDS = 300.0


@dataclass
class Tally:
    """What the sockets told, as it comes."""

    accepted_at: dict[str, float] = field(default_factory=dict)  # by organization
    settled: dict[str, float] = field(default_factory=dict)  # modification id to seconds since its commit
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hear(self, event: dict[str, Any]) -> None:
        if event["type"] not in SETTLED:
            return
        with self.lock:
            since = self.accepted_at.get(event["organizationId"], time.monotonic())
            self.settled[event["modificationId"]] = max(0.0, time.monotonic() - since)


def main() -> int:
    console = Console(stderr=False, highlight=False)
    items = number(os.environ, "ITEMS", 1000, highest=5000) or 1000
    var_dir = _fresh_directory()
    options = Options(var_dir=var_dir, roles=ROLES - {"flower"}, own_services=True)
    try:
        with ending_on_signals(), Stack(options, report=console.print) as stack:
            verdict = run(stack, console, items)
    except (StackError, DemoError) as error:
        print(error, file=sys.stderr)
        return 2
    except ToldToStop:
        print("Stopped.", file=sys.stderr)
        return 130
    if verdict.good:
        shutil.rmtree(var_dir, ignore_errors=True)
    _show(console, verdict)
    print(json.dumps(verdict.figures), flush=True)
    return 0 if verdict.good else 1


def _fresh_directory() -> Path:
    """A folder of its own, so that a `make up` beside it is not disturbed. It is removed when all went well."""
    (ROOT / "var").mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="demo-", dir=ROOT / "var"))


def run(stack: Stack, console: Console, items: int) -> Verdict:
    planners = [_signed_in(stack, slug, user) for slug, user, _ in ORGANIZATIONS]
    wanted = {
        planner.organization: _edits(planner, count) for planner, count in zip(planners, _shares(items), strict=True)
    }
    everything = [edit for some in wanted.values() for edit in some]
    tally = Tally()
    listeners = [planner.listen(tally.hear) for planner in planners]
    for listener in listeners:
        listener.connected.wait(15)
    for planner in planners:
        _draft(planner, wanted[planner.organization])
    sandbox = SandboxProcess.at(stack.sandbox_url)
    clashing, elsewhere = arrange_trouble(sandbox, everything)
    console.print(
        f"{items} drafts saved. Meanwhile PEMS users changed {clashing} of the same fields and {elsewhere} other ones."
    )
    time.sleep(1.1)  # so that the peak counted from here on is the run's own
    sandbox.reset_stats()
    seconds = _deliver(stack, console, planners, tally, items)
    for listener in listeners:
        listener.stop()
    rows = [row for planner in planners for row in planner.modifications()]
    verdict = judge(everything, rows, sandbox.audit(), sandbox.stats(), list(tally.settled.values()), seconds)
    edited = {edit.pfa_id for edit in everything}
    return verdict.followed_by(carry_on(stack, sandbox, planners, edited, console.print), sandbox.stats())


def _signed_in(stack: Stack, organization: str, username: str) -> Planner:
    planner = Planner(stack.base_url, organization, username, stack.options.demo_password)
    planner.sign_in()
    return planner


def _shares(items: int) -> list[int]:
    parts = sum(share for _, _, share in ORGANIZATIONS)
    last = items * ORGANIZATIONS[-1][2] // parts
    return [items - last, last]


def _edits(planner: Planner, count: int) -> list[Edit]:
    records = [record for record in planner.records() if usable(record)]
    if len(records) < count:
        raise DemoError(f"{planner.organization} has only {len(records)} records to edit; choose fewer ITEMS.")
    return edits(records[:count])


def _draft(planner: Planner, wanted: Sequence[Edit]) -> None:
    refused = [item for item in planner.save_drafts([edit.as_draft for edit in wanted]) if "error" in item]
    if refused:
        raise DemoError(f"{len(refused)} drafts were refused, the first: {refused[0]}")


def _deliver(stack: Stack, console: Console, planners: Sequence[Planner], tally: Tally, items: int) -> float:
    """Commit, watch, kill a write worker half way, wait for quiet. Seconds from the first commit to the last edit."""
    started = time.monotonic()
    for planner in planners:
        queued = planner.write_sync()
        tally.accepted_at[planner.organization] = time.monotonic()
        if queued["rejected"]:
            raise DemoError(f"write-sync refused {queued['rejected'][0]}")
    killed = False
    with _progress(console) as progress:
        bar = progress.add_task("delivered", total=items)
        while len(tally.settled) < items and time.monotonic() - started < QUIET_SECONDS:
            progress.update(bar, completed=len(tally.settled))
            if not killed and len(tally.settled) >= items // 2:
                killed = _kill_a_writer(stack, progress)
            time.sleep(0.05)
        progress.update(bar, completed=len(tally.settled))
    _wait_for_quiet(planners, until=started + QUIET_SECONDS)
    return time.monotonic() - started


def _kill_a_writer(stack: Stack, progress: Progress) -> bool:
    pid = stack.pids()["worker-write"][0]
    os.kill(pid, signal.SIGKILL)
    progress.console.print(f"half way: kill -9 of write worker {pid}")
    return True


def _wait_for_quiet(planners: Sequence[Planner], until: float) -> None:
    while time.monotonic() < until:
        states = [planner.status() for planner in planners]
        if not any(state["totalQueued"] + state["processing"] + state["unknown"] for state in states):
            return
        time.sleep(0.5)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


_MEANING = {
    "items": "edits committed over the API",
    "synced": "confirmed by PEMS",
    "autoMerged": "of these, PEMS had moved in other fields",
    "conflicts": "went to a person: both sides changed the same field",
    "deadLetters": "refused by PEMS, with its reason",
    "lost": "accepted and unaccounted for",
    "appliedTwice": "applied more than once, counted by PEMS",
    "requests": "HTTP requests PEMS received",
    "peakRequestsPerSecond": "most in any one-second window",
    "limit": "allowed per second",
    "seconds": "from commit to the last edit",
    "p50Ms": "commit to event at the socket, median",
    "p99Ms": "the same, 99 of 100",
    "resolved": "conflicts settled over the API afterwards",
    "inboundChanged": "records changed in PEMS afterwards that arrived here",
    "differences": "between here and PEMS in the end, as reconcile finds them",
}


def _show(console: Console, verdict: Verdict) -> None:
    table = Table("figure", "value", "meaning", title="The main job" + ("" if verdict.good else ": NOT GOOD"))
    for name, value in verdict.figures.items():
        table.add_row(name, str(value), _MEANING[name])
    console.print(table)
    if sys.stdout.isatty():
        console.print("Keep it running, with pages to look at: [bold]make up[/bold]")


if __name__ == "__main__":
    sys.exit(main())
