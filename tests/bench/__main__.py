"""usage: python -m tests.bench [name …]          (without names: all; figures go to var/bench.json)"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import claiming, drift, fairness, inbound, inbox, measures, outage, resolving, sockets
from tests.bench.measures import Figure

MEASURES = {
    "pace": measures.pace,
    "batched": measures.batched,
    "latency": measures.latency,
    "committing": measures.committing,
    "resolving": resolving.resolving,
    "sockets": sockets.figures,
    "drift": drift.drift,
    "inbound": inbound.figures,
    "inbox": inbox.figures,
    "claiming": claiming.figures,
    "fairness": fairness.fairness,
    "outage": outage.outage,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        print(f"There is no measure {unknown[0]!r}; there are {', '.join(MEASURES)}.", file=sys.stderr)
        return 2
    console = Console(highlight=False)
    figures: list[Figure] = []
    for name in names or MEASURES:
        console.print(f"measuring {name} …")
        figures += MEASURES[name]()
    _write(figures)
    table = Table("figure", "value", "bar", "", "requirement", title="Benchmarks")
    for each in figures:
        table.add_row(
            each.name, f"{each.value:g} {each.unit}", each.bar, "ok" if each.good else "MISSED", each.requirement
        )
    console.print(table)
    return 0 if all(each.good for each in figures) else 1


def _write(figures: list[Figure]) -> None:
    place = Path(os.environ.get("VAR_DIR") or "var")
    place.mkdir(parents=True, exist_ok=True)
    (place / "bench.json").write_text(json.dumps([asdict(each) for each in figures], indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
