"""usage: python -m tests.soak          (HOURS=0.333, PLOT=var/soak.png; see deploy/runbooks/capacity.md)"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deploy.demo.planner import DemoError
from deploy.local.options import ROLES, Options
from deploy.local.program import ROOT, StackError
from deploy.local.stack import Stack
from deploy.local.up import ToldToStop, ending_on_signals
from tests.soak import counting, plot
from tests.soak.load import RATED_EDITS_PER_SECOND, Load, settle_conflicts
from tests.soak.sampling import Sampler
from tests.soak.verdict import growth, is_good

SAMPLE_SECONDS = 5.0
QUIET_SECONDS = 180.0


def main() -> int:
    var = Path(os.environ.get("VAR_DIR") or ROOT / "var").absolute()
    picture = Path(os.environ.get("PLOT") or var / "soak.png").absolute()
    try:
        hours = wanted_hours(os.environ.get("HOURS") or "0.333")
        with ending_on_signals():
            figures = run(hours, var, picture)
    except (StackError, DemoError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    except ToldToStop:
        print("Stopped.", file=sys.stderr)
        return 130
    print(json.dumps(figures), flush=True)
    return 0 if figures["good"] else 1


def wanted_hours(text: str) -> float:
    """ValueError with a sentence when it is no number between 15 seconds and a month."""
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 15 / 3600 <= hours <= 24 * 31:
        raise ValueError(f"HOURS={text!r} is not a number of hours between 0.005 and 744, as in HOURS=0.333.")
    return hours


def run(hours: float, var: Path, picture: Path) -> dict[str, Any]:
    """One soak on a stack of its own, in a fresh folder of `var` that is removed when all was good. The samples are left
    beside the picture, as JSON lines."""
    var.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="soak-", dir=var))
    options = Options(var_dir=place, roles=ROLES - {"flower"}, own_services=True)
    with Stack(options, report=say) as stack:
        load = Load(stack)
        load.sandbox.reset_stats()
        say(f"Twice the rated load, {2 * RATED_EDITS_PER_SECOND:.2f} edits a second, for {hours:g} hours")
        samples = watch(stack, load, hours, picture.with_suffix(".jsonl"))
        load.stop()
        waited = settle(load)
        load.hang_up()
        counts = load.tally.counts
        figures = {
            "hours": hours,
            **counting.count(stack, load.sandbox, accepted=counts["accepted"]),
            **growth(samples),
            "editsPerSecond": round(counts["accepted"] / max(1.0, samples[-1]["at"]), 2),
            "foreignEdits": counts["pems"] + counts["clashes"],
            "pulls": counts["pulls"],
            "conflictsResolved": counts["resolved"],
            "quietAfterSeconds": round(waited, 1),
            "errors": list(load.tally.errors)[:5],
        }
    figures["good"] = is_good(figures)
    plot.draw(samples, picture, _title(figures))
    if figures["good"]:
        shutil.rmtree(place, ignore_errors=True)
    return figures


def watch(stack: Stack, load: Load, hours: float, lines: Path) -> list[dict[str, Any]]:
    """A sample every few seconds while the load is on; each is written down at once."""
    sampler = Sampler(database_url=stack.services.database_url, redis_url=stack.services.redis_url)
    lines.parent.mkdir(parents=True, exist_ok=True)
    samples: list[dict[str, Any]] = []
    load.start()
    began = time.monotonic()
    with lines.open("w") as file:
        while (at := time.monotonic() - began) < hours * 3600:
            samples.append({"at": round(at, 1), **sampler.sample(stack.pids()), **load.told()})
            file.write(json.dumps(samples[-1]) + "\n")
            file.flush()
            if len(samples) % 12 == 1:
                say(_progress(samples[-1]))
            step = min(SAMPLE_SECONDS, hours * 3600 / 8)
            time.sleep(max(0.0, began + step * len(samples) - time.monotonic()))
    sampler.close()
    return samples


def settle(load: Load) -> float:
    """Waits until everything accepted has come to an end, conflicts settled as on any day. Seconds; DemoError when not."""
    began = time.monotonic()
    while time.monotonic() - began < QUIET_SECONDS:
        for lead in load.leads:
            settle_conflicts(lead, load.tally)
        states = [planner.status() for planner in load.planners]
        if not sum(each[name] for each in states for name in ("totalQueued", "processing", "unknown", "conflicts")):
            return time.monotonic() - began
        time.sleep(0.5)
    raise DemoError(f"not quiet {QUIET_SECONDS:g} s after the last edit")


def _progress(sample: dict[str, Any]) -> str:
    memory = ", ".join(f"{role} {value:.0f}" for role, value in sample["memoryMb"].items())
    edits = f"{sample['accepted']} edits, {sample['told']} confirmed, lag {sample['lagSeconds']:.1f} s"
    return f"{sample['at'] / 60:6.1f} min: {edits}, p95 {sample['p95Seconds']:.2f} s; MB: {memory}"


def _title(figures: dict[str, Any]) -> str:
    of = {name: f"{value:g}" for name, value in figures.items() if isinstance(value, int | float)}
    rate = f"{of['editsPerSecond']} edits/s over two organizations"
    counts = f"{of['edits']} edits, {of['confirmed']} confirmed, {of['lost']} lost, {of['appliedTwice']} applied twice"
    peak = f"at most {of['peakRequestsPerSecond']} of {of['limit']} requests in a second"
    verdict = "good" if figures["good"] else "NOT GOOD"
    return f"pems-sync, {of['hours']} h at twice the rated load ({rate}): {verdict}\n{counts}, {peak}"


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
