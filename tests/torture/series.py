"""Several seeds, each as a process of its own, and one table of what came of them."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.local.program import ROOT
from tests.torture.verdict import BAD

SHOWN = ("edits", "confirmed", "conflicts", "deadLetters", *BAD)


def seeds_of(text: str) -> list[int]:
    """`1-3,7` is 1, 2, 3 and 7. Raises ValueError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def series(seeds: list[int], minutes: float, parallel: int) -> int:
    """0 only if every seed is good. What a bad one printed is in var/torture-SEED.log."""
    console = Console(highlight=False)
    with ThreadPoolExecutor(parallel) as pool:
        results = list(pool.map(lambda seed: _one(seed, minutes, console), seeds))
    table = Table("seed", *SHOWN, "kinds of fault")
    for figures in results:
        table.add_row(
            str(figures["seed"]), *(str(figures.get(name, "-")) for name in SHOWN), str(len(figures.get("faults", ())))
        )
    console.print(table)
    good = sum(bool(figures.get("good")) for figures in results)
    console.print(f"{good} of {len(results)} seeds good")
    return 0 if good == len(results) else 1


def _one(seed: int, minutes: float, console: Console) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.torture", "--seed", str(seed), "--minutes", str(minutes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        (ROOT / "var" / f"torture-{seed}.log").write_text(done.stdout + done.stderr)
    console.print(f"seed {seed}: exit {done.returncode} {lines[-1] if lines else done.stderr[-300:]}")
    try:
        figures: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        figures = {"seed": seed}
    return figures | {"good": done.returncode == 0}
