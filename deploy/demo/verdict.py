"""Counts what happened, on both sides: what our interface says, and what the sandbox applied by its own count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploy.demo.afterwards import Afterwards
from deploy.demo.edits import Edit

SETTLED = {"SYNC_SUCCESS", "SYNC_CONFLICT", "SYNC_FAILED"}


@dataclass(frozen=True)
class Verdict:
    """The figures of the last line."""

    figures: dict[str, Any]

    @property
    def good(self) -> bool:
        held = bool(self.figures["peakRequestsPerSecond"] <= self.figures["limit"])
        agreed = self.figures.get("differences", 0) == 0
        return self.figures["lost"] == 0 and self.figures["appliedTwice"] == 0 and held and agreed

    def followed_by(self, afterwards: Afterwards, stats: dict[str, Any]) -> Verdict:
        """With what came after the main job; the limit has to have held there, too."""
        more = {
            "resolved": afterwards.resolved,
            "inboundChanged": afterwards.inbound_changed,
            "differences": afterwards.differences,
        }
        return Verdict(self.figures | more | {"peakRequestsPerSecond": stats["peakRequestsPerSecond"]})


def judge(
    wanted: Sequence[Edit],
    modifications: Sequence[dict[str, Any]],
    applied: Sequence[dict[str, Any]],
    stats: dict[str, Any],
    latencies: Sequence[float],
    seconds: float,
) -> Verdict:
    """`modifications`: as listed by the API; `applied`: the sandbox's audit; `latencies` in seconds."""
    mine = {edit.pfa_id: edit for edit in wanted}
    by_status = Counter(row["status"] for row in modifications if row["pfaId"] in mine)
    writes = Counter(entry["pfaId"] for entry in applied if entry["source"] == "api")
    synced = {row["pfaId"] for row in modifications if row["status"] == "synced" and row["pfaId"] in mine}
    accounted = by_status["synced"] + by_status["conflict"] + by_status["failed"]
    missing = [pfa_id for pfa_id in synced if not writes[pfa_id]]
    ordered = sorted(latencies) or [0.0]
    return Verdict(
        {
            "items": len(wanted),
            "synced": by_status["synced"],
            "autoMerged": sum(1 for row in modifications if row["pfaId"] in synced and row["autoMerged"]),
            "conflicts": by_status["conflict"],
            "deadLetters": by_status["failed"],
            "lost": len(wanted) - accounted + len(missing),
            "appliedTwice": sum(1 for number in writes.values() if number > 1),
            "requests": stats["requests"]["total"],
            "peakRequestsPerSecond": stats["peakRequestsPerSecond"],
            "limit": stats["limit"],
            "seconds": round(seconds, 1),
            "p50Ms": round(1000 * ordered[len(ordered) // 2]),
            "p99Ms": round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]),
        }
    )
