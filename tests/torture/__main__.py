"""usage: python -m tests.torture [--seed N | --seeds 1-40] [--minutes M] [--parallel P]

The last line of one seed is one JSON object; of several, a table. Every result is also a line in var/torture.jsonl.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from deploy.local.program import ROOT, StackError
from deploy.local.up import ToldToStop, ending_on_signals
from tests.torture.run import torture
from tests.torture.series import seeds_of, series


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", default="", help="several, as in 1-40 or 1,5,9")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--parallel", type=int, default=1, help="runs side by side, with --seeds")
    given = parser.parse_args()
    if given.seeds:
        return series(seeds_of(given.seeds), given.minutes, given.parallel)
    return one(given.seed, given.minutes)


def one(seed: int, minutes: float) -> int:
    """0 only if nothing that must hold was broken; 2 when it could not run; keeps its directory unless all is well."""
    (ROOT / "var").mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"torture-{seed}-", dir=ROOT / "var"))
    began = time.monotonic()

    def report(sentence: str) -> None:
        print(f"[{time.monotonic() - began:6.1f}] {sentence}", flush=True)

    try:
        with ending_on_signals():
            result = torture(seed, minutes, place, report)
    except StackError as error:
        print(error, file=sys.stderr)
        return 2
    except ToldToStop:
        print("Stopped.", file=sys.stderr)
        return 130
    for name, sentences in result.sentences.items():
        print(f"\n{name}:", *(f"  {sentence[:1200]}" for sentence in sentences[:15]), sep="\n")
    for line in result.stories:
        print(line[:1500])
    if result.good:
        shutil.rmtree(place, ignore_errors=True)
    else:
        print(f"\nLogs and data are kept in {place}.")
    line = json.dumps(result.figures)
    with (ROOT / "var" / "torture.jsonl").open("a") as kept:
        kept.write(line + "\n")
    print(line, flush=True)
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
