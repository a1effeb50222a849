"""I11 from the sandbox's own diary: when did requests arrive, over all its lives? (deploy/sandbox/statelog.py)"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

TRANSIT_SECONDS = 0.1
"""An arrival is stamped by a process that fights for the CPU with everything that is being killed and started here. One
stamped so much later than it was sent makes the second behind it look fuller; more than the limit within the rest of a
second is what no such delay explains. The strict count is `peakRequestsPerSecond`."""


def arrivals(diary: Path) -> list[float]:
    """Seconds since the epoch, since the counts were last forgotten."""
    times: list[float] = []
    for line in diary.read_bytes().splitlines():
        if line.startswith(b'{"forgotten"'):
            times.clear()
        elif line.startswith(b'{"arrived"'):
            times.append(float(json.loads(line)["arrived"]))
    return sorted(times)


def over_limit(times: Sequence[float], limit: int, *, transit_seconds: float = TRANSIT_SECONDS) -> list[str]:
    """One sentence per arrival with `limit` others in less than a second before it, transit set aside."""
    pairs = zip(times, times[limit:], strict=False)
    return [
        f"{limit + 1} requests within {last - first:.3f} s, the last at {datetime.fromtimestamp(last, UTC).isoformat()}"
        for first, last in pairs
        if last - first < 1.0 - transit_seconds
    ]
