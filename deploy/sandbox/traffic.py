"""Counts requests as PEMS sees them: by arrival, in a sliding window of one second."""

from collections import Counter, deque
from typing import Any

from .clock import stamp


class Traffic:
    """A window is half-open, [t, t + 1): an arrival exactly a second after another is not in its window."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Requests a second; 0 counts without refusing."""
        self._window: deque[float] = deque()
        self.forget()

    def forget(self) -> None:
        """Starts all counts again; requests of the last second still count towards the limit."""
        self._peak = 0
        self._total = 0
        self._violations = 0
        self._last_violations: deque[dict[str, Any]] = deque(maxlen=100)
        self._per_second: Counter[int] = Counter()
        self._by_method: Counter[str] = Counter()
        self._by_status: Counter[str] = Counter()

    def arrive(self, at: float) -> bool:
        """Counts an arrival at `at` (seconds, never before the one before); False when it is over the limit.

        A refused request counts too: who knocks on without pause stays out.
        """
        window = self._window
        window.append(at)
        while window[0] <= at - 1.0:
            window.popleft()
        self._total += 1
        self._per_second[int(at)] += 1
        self._peak = max(self._peak, len(window))
        if not self.limit or len(window) <= self.limit:
            return True
        self._violations += 1
        self._last_violations.append({"at": stamp(at), "requestsInWindow": len(window)})
        return False

    def answered(self, method: str, result: str) -> None:
        """`result` is the status, or `cut` when the connection was closed instead."""
        self._by_method[method] += 1
        self._by_status[result] += 1

    def report(self) -> dict[str, Any]:
        """The traffic part of the statistics."""
        return {
            "limit": self.limit,
            "peakRequestsPerSecond": self._peak,
            "violations": self._violations,
            "lastViolations": list(self._last_violations),
            "requests": {
                "total": self._total,
                "byMethod": dict(self._by_method),
                "byStatus": dict(self._by_status),
                "perSecond": sorted(self._per_second.items())[-600:],
            },
        }
