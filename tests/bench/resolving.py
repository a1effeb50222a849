"""How long it takes to resolve a conflict, as a client sees it: one by one over the API, and many at once.

The conflicts are real ones: edits of the planner that meet other values in PEMS. What is resolved is delivered meanwhile,
as in production, where people take a moment from one conflict to the next.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tests.bench.measures import Bench, Figure, bench

BAR_MS = 50.0
EACH_WAY = 40
MOMENT_SECONDS = 0.1


def resolving(each_way: int = EACH_WAY) -> list[Figure]:
    """As many by `use_local` as by `use_pems` and by `merge`, and the rest in one bulk resolution."""
    with bench() as each:
        conflicts = _conflicts(each, 4 * each_way)
        taken = [
            _resolve_one(each, conflict, ("use_local", "use_pems", "merge")[number % 3])
            for number, conflict in enumerate(conflicts[: 3 * each_way])
        ]
        per_item = _resolve_the_rest(each, each_way)
    taken.sort()
    p50, p95 = 1000 * taken[len(taken) // 2], 1000 * taken[int(len(taken) * 0.95)]
    return [
        Figure("resolve a conflict, median", round(p50, 1), "ms", "", True, "K8"),
        Figure("resolve a conflict, 95 of 100", round(p95, 1), "ms", f"< {BAR_MS:g}", p95 < BAR_MS, "K8"),
        Figure(
            f"bulk of {each_way} conflicts, preview and all, per conflict", round(per_item, 1), "ms", f"< {BAR_MS:g}",
            per_item < BAR_MS, "K8",
        ),
    ]  # fmt: skip


def _conflicts(each: Bench, count: int) -> list[dict[str, Any]]:
    """Somebody else changes the model of every record between our draft and our commit."""
    records = each.records(count)
    each.draft(records, "OURS")
    for start in range(0, count, 100):
        some = records[start : start + 100]
        each.sandbox.edit_many([{"pfaId": one["pfaId"], "changes": {"model": "THEIRS"}} for one in some])
    each.planner.write_sync()
    return _once_open(each, count)


def _once_open(each: Bench, count: int, *, seconds: float = 60) -> list[dict[str, Any]]:
    end = time.monotonic() + seconds
    found: Sequence[dict[str, Any]] = ()
    while time.monotonic() < end:
        found = list(_open_ones(each))
        if len(found) >= count:
            return list(found)
        time.sleep(1)
    raise TimeoutError(f"{len(found)} of {count} conflicts opened within {seconds:g} s")


def _open_ones(each: Bench) -> list[dict[str, Any]]:
    organization = each.planner.organization
    return list(each.planner.pages("/api/pems/conflicts", organizationId=organization, status="unresolved"))


def _resolve_one(each: Bench, conflict: dict[str, Any], resolution: str) -> float:
    body = {"resolution": resolution, "seenPemsVersion": conflict["pemsVersion"]}
    body |= {"mergedData": {"model": "BOTH"}} if resolution == "merge" else {}
    begun = time.monotonic()
    each.planner.call("POST", f"/api/pems/conflicts/{conflict['id']}/resolve", json=body)
    taken = time.monotonic() - begun
    time.sleep(MOMENT_SECONDS)
    return taken


def _resolve_the_rest(each: Bench, count: int) -> float:
    """Milliseconds for each, the preview included."""
    body = {"organizationId": each.planner.organization, "resolution": "use_local"}
    begun = time.monotonic()
    path = "/api/pems/conflicts/bulk-resolve"
    token = each.planner.call("POST", path, json={**body, "preview": True, "filter": {}})["previewToken"]
    applied = each.planner.call("POST", path, json={**body, "preview": False, "previewToken": token})["applied"]
    taken = time.monotonic() - begun
    assert len(applied) == count, f"{len(applied)} of {count} were applied"
    return 1000 * taken / count
