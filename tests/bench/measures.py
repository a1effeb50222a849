"""What is measured, each on a stack of its own, over the API and the socket as a client sees it."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from deploy.demo.edits import usable
from deploy.demo.planner import Planner
from deploy.local.options import ROLES, Options
from deploy.local.stack import Stack
from deploy.sandbox.process import SandboxProcess


@dataclass(frozen=True)
class Figure:
    """One measured figure and the bar it is held against."""

    name: str
    value: float
    unit: str
    bar: str
    good: bool
    requirement: str


@dataclass
class Heard:
    """When each modification was confirmed at the socket."""

    at: dict[str, float] = field(default_factory=dict)
    news: threading.Condition = field(default_factory=threading.Condition)

    def hear(self, event: dict[str, Any]) -> None:
        if event["type"] == "SYNC_SUCCESS":
            with self.news:
                self.at[event["modificationId"]] = time.monotonic()
                self.news.notify_all()

    def wait_for(self, count: int, seconds: float) -> None:
        with self.news:
            if not self.news.wait_for(lambda: len(self.at) >= count, seconds):
                raise TimeoutError(f"{len(self.at)} of {count} edits were confirmed within {seconds:g} s")


@dataclass(frozen=True)
class Bench:
    """A running stack, a planner who is not slowed down, and what the socket said."""

    stack: Stack
    planner: Planner
    sandbox: SandboxProcess
    heard: Heard

    def records(self, count: int) -> list[dict[str, Any]]:
        found = [record for record in self.planner.records() if usable(record)]
        assert len(found) >= count, f"only {len(found)} records"
        return found[:count]

    def draft(self, records: Sequence[dict[str, Any]], tag: str) -> None:
        items = [
            {"pfaId": each["pfaId"], "changes": {"model": f"{tag}-{number}"}, "baseVersion": each["version"]}
            for number, each in enumerate(records)
        ]
        refused = [item for item in self.planner.save_drafts(items) if "error" in item]
        assert not refused, refused[0]


@contextmanager
def bench(*, records: int = 8807, knobs: Mapping[str, str] | None = None) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="pems-sync-bench-") as place:
        passed_on = {"API_USER_RATE_LIMIT": "100000", **(knobs or {})}
        options = Options(
            var_dir=Path(place), own_services=True, records=records, roles=ROLES - {"flower"}, passed_on=passed_on
        )
        with Stack(options) as stack:
            planner = Planner(stack.base_url, "org-rio", "rio-planner", options.demo_password)
            planner.sign_in()
            heard = Heard()
            listener = planner.listen(heard.hear)
            assert listener.connected.wait(15), "the socket did not connect"
            try:
                yield Bench(stack, planner, SandboxProcess.at(stack.sandbox_url), heard)
            finally:
                listener.stop()


def pace(count: int = 1000) -> list[Figure]:
    """Single writes at 10 requests a second by two workers: how much of the limit is used, and whether it holds."""
    with bench(knobs={"PEMS_BATCH": "off"}) as each:
        each.draft(each.records(count), "PACE")
        time.sleep(1.1)
        each.sandbox.reset_stats()
        each.planner.write_sync()
        each.heard.wait_for(count, count / 10 * 1.5 + 30)
        times = sorted(
            datetime.fromisoformat(entry["at"]) for entry in each.sandbox.audit() if entry["source"] == "api"
        )
        stats = each.sandbox.stats()
    rate = (len(times) - 1) / (times[-1] - times[0]).total_seconds()
    share, peak = 100 * rate / stats["limit"], stats["peakRequestsPerSecond"]
    return [
        Figure("pace: share of the limit used", round(share, 1), "%", ">= 96", share >= 96, "F1"),
        Figure("pace: most requests in a second", peak, "", f"<= {stats['limit']}", peak <= stats["limit"], "F1"),
    ]


def batched(count: int = 10_000) -> list[Figure]:
    """A large commit in batches of up to 100."""
    with bench(records=max(8807, 3 * count)) as each:
        each.draft(each.records(count), "BATCH")
        each.sandbox.reset_stats()
        begun = time.monotonic()
        each.planner.write_sync()
        accepted = time.monotonic()
        each.heard.wait_for(count, 300)
        done = max(each.heard.at.values())
        times = sorted(
            datetime.fromisoformat(entry["at"]) for entry in each.sandbox.audit() if entry["source"] == "api"
        )
        requests = each.sandbox.stats()["requests"]["total"]
    sent = (times[-1] - times[0]).total_seconds()
    return [
        Figure(
            f"batched: {count} edits, commit to last event",
            round(done - begun, 1),
            "s",
            "<= 20",
            done - begun <= 20,
            "F1",
        ),
        Figure("batched: from first to last request", round(sent, 1), "s", "", True, "F1"),
        Figure("batched: the commit itself", round(accepted - begun, 1), "s", "", True, "F1"),
        Figure("batched: requests", requests, "", "", True, "F1"),
    ]


def latency(count: int = 200) -> list[Figure]:
    """An idle system and a PEMS that takes 20 ms: commit accepted to event at the socket."""
    with bench(knobs={"PEMS_API_RATE_LIMIT": "10"}) as each:
        each.sandbox.settings(latency_ms=20)
        records = each.records(count + 5)
        taken, saved = [], []
        for number, record in enumerate(records):
            begun = time.monotonic()
            each.draft([record], f"LAT-{number}")
            saved.append(time.monotonic() - begun)
            each.planner.write_sync()
            accepted = time.monotonic()
            each.heard.wait_for(number + 1, 30)
            taken.append(max(each.heard.at.values()) - accepted)
            time.sleep(0.15)
    taken = sorted(taken[5:])
    p50, p99 = 1000 * statistics.median(taken), 1000 * taken[int(len(taken) * 0.99)]
    return [
        Figure("latency: commit to event, median", round(p50), "ms", "< 100", p50 < 100, "F2"),
        Figure("latency: commit to event, 99 of 100", round(p99), "ms", "< 300", p99 < 300, "F2"),
    ]


def committing(count: int = 1000) -> list[Figure]:
    """Saving single drafts, and committing a thousand in one request. Nothing is sent meanwhile."""
    with bench() as each:
        records = each.records(count)
        saved = [_save_one(each.planner, record) for record in records[:200]]
        each.draft(records, "COMMIT")
        begun = time.monotonic()
        queued = each.planner.write_sync()["queuedCount"]
        seconds = time.monotonic() - begun
    assert queued == count, queued
    p95 = 1000 * sorted(saved)[int(len(saved) * 0.95)]
    return [
        Figure("save draft, 95 of 100", round(p95, 1), "ms", "< 25", p95 < 25, "F5"),
        Figure(f"commit of {count} drafts", round(seconds, 2), "s", "< 1", seconds < 1, "F1"),
    ]


def _save_one(planner: Planner, record: dict[str, Any]) -> float:
    body = {"changes": {"model": "ONE"}, "baseVersion": record["version"]}
    begun = time.monotonic()
    planner.call("PUT", f"/api/pfa/{planner.organization}/drafts/{record['pfaId']}", json=body)
    return time.monotonic() - begun
