"""From samples to a verdict. Pure. Slopes are Theil-Sen (the median over all pairs), so that a spike moves nothing, and are taken
over the second half of the run: the first half warms up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations
from statistics import median
from typing import Any

Sample = dict[str, Any]
Point = tuple[float, float]
Of = Callable[[Sample], float | None]

WARM_SECONDS = 600.0
"""A shorter run is judged by what it did, not by growth: caches and pools are still filling."""
MOST_POINTS = 200
JUDGED_ROLES = ("web", "worker-write", "worker-control", "beat", "redis", "postgres")
"""The sandbox keeps its whole audit in memory, and is no part of what is delivered."""
MEMORY_MB_PER_HOUR = 4.0
MEMORY_MB, MEMORY_MB_PER_PROCESS = 6.0, 0.5
"""Growth is a leak when it is beyond both: the rate, and the amount within the second half, which allows each process for
caches of its own that fill late."""
MORE_FILES = 10
"""Of one role. PostgreSQL is not asked: it keeps table files open on purpose, up to 1,000 a process."""
MORE_CONNECTIONS = 3
LARGE_TABLE_ROWS = 10_000
DEAD_SHARE = 0.25
"""Of a large table: autovacuum comes at a fifth."""
SMALL_TABLE_BYTES = 1_000_000
"""By which a small table, whose rows do not become more, may grow in the second half."""
LAG_SECONDS = 10.0
HISTORY = ("modification", "attempt", "attemptoutcome", "journalentry", "recordversion", "job", "webhookevent")
"""Grow with each edit, as they are meant to; their bloat is their share of dead rows."""


def slope(points: Sequence[Point]) -> float:
    """Per unit of x; 0 for fewer than two points."""
    few = thinned(points)
    slopes = [(there[1] - here[1]) / (there[0] - here[0]) for here, there in combinations(few, 2) if there[0] > here[0]]
    return median(slopes) if slopes else 0.0


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most MOST_POINTS, each the median of its neighbours."""
    size = -(-len(points) // MOST_POINTS) or 1
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(median(x for x, _ in part), median(y for _, y in part)) for part in parts]


def growth(samples: Sequence[Sample]) -> dict[str, Any]:
    """The figures about growth. `memoryGrowthMbPerHour` by role; `connections` {start, end, max}; `deadTupleShare` of the worst
    large table; `grown`: what grew beyond its bar, in words."""
    half = samples[len(samples) // 2 :]
    connections = [each["connections"] for each in samples]
    ends = max(1, len(samples) // 10)
    lasted = samples[-1]["at"] - samples[0]["at"]
    return {
        "memoryGrowthMbPerHour": {
            role: round(3600 * slope(_series(half, _in("memoryMb", role))), 2) for role in JUDGED_ROLES
        },
        "connections": {
            "start": round(median(connections[:ends])),
            "end": round(median(connections[-ends:])),
            "max": max(connections),
        },
        "deadTupleShare": round(max(_dead_shares(half).values(), default=0.0), 3),
        "lagP95Seconds": round(_p95([each["lagSeconds"] for each in samples]), 2),
        "grown": sorted(grown(half)) if lasted >= WARM_SECONDS else [],
    }


def grown(half: Sequence[Sample]) -> Iterable[str]:
    """What grew beyond its bar in this half of a run, in words."""
    seconds = half[-1]["at"] - half[0]["at"]

    def more(of: Of) -> float:
        return seconds * slope(_series(half, of))

    for role in JUDGED_ROLES:
        memory, files = more(_in("memoryMb", role)), more(_in("files", role))
        allowed = MEMORY_MB + MEMORY_MB_PER_PROCESS * half[-1]["processes"].get(role, 0)
        if memory > allowed and 3600 * memory / seconds > MEMORY_MB_PER_HOUR:
            yield f"memory of {role}: {memory:.1f} MB more"
        if files > MORE_FILES and role != "postgres":
            yield f"open files of {role}: {files:.0f} more"
    for name, most in (
        ("connections", MORE_CONNECTIONS),
        ("redisClients", MORE_CONNECTIONS),
        ("lagSeconds", LAG_SECONDS / 2),
    ):
        if more(_at(name)) > most:
            yield f"{name}: {more(_at(name)):.1f} more"
    yield from (f"dead rows of {name}: {share:.0%}" for name, share in _dead_shares(half).items() if share > DEAD_SHARE)
    for name in small_tables(half):
        size = more(partial(table_bytes, name=name))
        if size > SMALL_TABLE_BYTES:
            yield f"size of {name}: {size / 1e6:.1f} MB more"


def small_tables(samples: Sequence[Sample]) -> list[str]:
    """Those that stay small and whose rows are written again and again."""
    last = samples[-1]["tables"]
    return [name for name, rows in last.items() if rows["live"] < LARGE_TABLE_ROWS and not is_history(name)]


def is_history(table: str) -> bool:
    return table.rpartition("_")[2] in HISTORY


def table_bytes(sample: Sample, name: str) -> float | None:
    rows = sample["tables"].get(name)
    return rows and rows["bytes"] + rows["indexBytes"]


def _dead_shares(half: Sequence[Sample]) -> dict[str, float]:
    """Of the large tables: the median share of dead rows."""
    large = [name for name, rows in half[-1]["tables"].items() if rows["live"] >= LARGE_TABLE_ROWS]
    shown = {name: [each["tables"][name] for each in half if name in each["tables"]] for name in large}
    return {
        name: median(rows["dead"] / max(1, rows["dead"] + rows["live"]) for rows in found)
        for name, found in shown.items()
    }


def _at(name: str) -> Of:
    return lambda sample: sample[name]


def _in(name: str, role: str) -> Of:
    return lambda sample: sample[name].get(role)


def _series(samples: Sequence[Sample], of: Of) -> list[Point]:
    found = ((each["at"], of(each)) for each in samples)
    return [(at, value) for at, value in found if value is not None]


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]


def is_good(figures: dict[str, Any]) -> bool:
    """Nothing lost, nothing twice, no error, the limit held, both sides agree, nothing grew, nobody waited for long."""
    nothing = ("lost", "appliedTwice", "limitViolations", "differences", "errors", "grown", "unverified")
    did_something = figures["confirmed"] > 0 and figures["edits"] > 0
    return did_something and not any(figures[name] for name in nothing) and figures["lagP95Seconds"] <= LAG_SECONDS
