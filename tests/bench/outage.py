"""PEMS is down while thousands of edits wait, and comes back (D10): what is lost, what is burnt, how fast the queue drains.

OUTAGE_SECONDS=1800 python -m tests.bench outage        as the requirement has it: half an hour
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from tests.bench.measures import Bench, Figure, bench
from tests.bench.watching import Watch, at, set_batch_size

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "0"))
"""0: shortened, to 60 s for batches and 30 s for singles. The requirement's half an hour differs in nothing but waiting."""
BATCHED, SINGLES = 5_000, 300
BATCH = 100
SLOW_START = ((2.0, 0.1), (2.0, 0.2), (2.0, 0.4), (2.0, 0.8))
"""After a canary was answered: seconds, and the share of the limit."""
SPACING = 1.02
CANARY_SECONDS = 16.0
"""The longest pause between two canaries is 15 s; then one has to be claimed and sent."""


@dataclass(frozen=True)
class Form:
    name: str
    mode: str
    edits: int
    batch: int
    seconds: float

    @property
    def requests(self) -> int:
        return -(-self.edits // self.batch)


FORMS = (
    Form("singles, cut", "cut", SINGLES, 1, OUTAGE_SECONDS or 30.0),
    Form("batches, 503", "503", BATCHED, BATCH, OUTAGE_SECONDS or 60.0),
)


def outage() -> list[Figure]:
    with bench(records=14_000) as each:
        return [figure for form in FORMS for figure in _one(each, form)]


def ideal_seconds(requests: int, limit: float) -> float:
    """From the canary's answer on, at best: the slow start, then the full pace."""
    seconds, left = 0.0, float(requests)
    for lasts, share in SLOW_START:
        rate = share * limit / SPACING
        if left <= lasts * rate:
            return seconds + left / rate
        seconds, left = seconds + lasts, left - lasts * rate
    return seconds + left * SPACING / limit


def _one(each: Bench, form: Form) -> list[Figure]:
    watch = Watch(each.stack, each.sandbox, f"DOWN-{form.mode}")
    records = each.records(form.edits)
    set_batch_size(each.stack, form.batch)
    each.sandbox.faults(outage={"from": 0, "to": form.seconds, "mode": form.mode})
    back_at = time.time() + form.seconds
    each.draft(records, watch.tag)
    each.planner.write_sync()
    time.sleep(max(0.0, back_at - 1.5 - time.time()))
    waiting = form.edits - watch.states().get("confirmed", 0)
    each.sandbox.reset_stats()
    states = watch.wait_for(lambda states: states.get("confirmed", 0) == form.edits, _patience(form))
    return _figures(form, watch, waiting, back_at, states)


def _patience(form: Form) -> float:
    return 90 + 3 * ideal_seconds(form.requests, 10)


def _figures(form: Form, watch: Watch, waiting: int, back_at: float, states: dict[str, int]) -> list[Figure]:
    writes, stats = watch.writes(), watch.sandbox.stats()
    times = sorted(at(entry) for entry in writes)
    canary, took = times[0] - back_at, times[-1] - times[0]
    ideal = ideal_seconds(form.requests, stats["limit"])
    over, lost = took / ideal, form.edits - states.get("confirmed", 0)
    dead, burnt, peak = watch.ever("dead"), watch.burnt(), stats["peakRequestsPerSecond"]
    of = f"outage of {form.seconds:g} s, {form.name}"
    return [
        Figure(f"{of}: edits that waited", waiting, "", f"= {form.edits}", waiting == form.edits, "D10"),
        Figure(f"{of}: lost, or not written once", lost, "", "= 0", lost == 0 and watch.written_once(), "D10"),
        Figure(f"{of}: dead letters", dead, "", "= 0", dead == 0, "D10"),
        Figure(f"{of}: attempts burnt", burnt, "", "= 0", burnt == 0, "D10"),
        Figure(f"{of}: most requests in a second", peak, "", f"<= {stats['limit']}", peak <= stats["limit"], "I11"),
        Figure(f"{of}: until the first write", round(canary, 1), "s", f"<= {CANARY_SECONDS:g}",
               canary <= CANARY_SECONDS, "D10"),
        Figure(f"{of}: from the first to the last, ideal {ideal:.1f} s", round(took, 1), "s",
               "<= 1.1 x ideal", over <= 1.1, "D10"),
    ]  # fmt: skip
