"""Who works on the stack while it is watched: planners, people in PEMS, a lead who settles conflicts, pulls, two sockets.

Rated is what F1 asks for, 1,000 edits in 5 minutes; the load here is twice that, shared by two organizations.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any

import requests

from deploy.demo.edits import usable
from deploy.demo.planner import DemoError, Planner
from deploy.local.stack import Stack
from deploy.sandbox.process import SandboxError, SandboxProcess

RATED_EDITS_PER_SECOND = 1000 / 300
COMMIT_EVERY_SECONDS = 3.0
ORGANIZATIONS = (("org-rio", "rio"), ("org-portarthur", "portarthur"))
EDITS_PER_COMMIT = round(2 * RATED_EDITS_PER_SECOND * COMMIT_EVERY_SECONDS / len(ORGANIZATIONS))
CLASH_EVERY = 10
"""Of so many commits, one finds that a person in PEMS was quicker with the same field."""
PULL_EVERY_SECONDS = 20.0
FREE = frozenset({"synced", "withdrawn", "superseded"})
SETTLED = frozenset({"SYNC_SUCCESS", "SYNC_CONFLICT", "SYNC_FAILED"})


@dataclass
class Tally:
    """What was asked for and what the sockets told. Latencies in seconds, commit to confirmation, with their time."""

    counts: Counter[str] = field(default_factory=Counter)
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    latencies: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=5000))
    under_way: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str, number: int = 1) -> None:
        with self.lock:
            self.counts[what] += number

    def hear(self, event: dict[str, Any]) -> None:
        if event["type"] not in SETTLED:
            return
        now = time.monotonic()
        with self.lock:
            begun = self.under_way.pop(event["modificationId"], None)
            if event["type"] == "SYNC_SUCCESS":
                self.counts["told"] += 1
                if begun is not None:
                    self.latencies.append((now, now - begun))

    def p95_seconds(self, *, last_seconds: float = 60.0) -> float:
        """Of what was confirmed lately; 0 when nothing was."""
        since = time.monotonic() - last_seconds
        with self.lock:
            found = sorted(seconds for at, seconds in self.latencies if at >= since)
        return found[int(len(found) * 0.95)] if found else 0.0


class Load:
    """Runs between `start` and `stop`, each actor in a thread of its own. Errors of the interface are counted, not raised."""

    def __init__(self, stack: Stack) -> None:
        self.tally = Tally()
        self.sandbox = SandboxProcess.at(stack.sandbox_url)
        self.planners = [_signed_in(stack, slug, f"{name}-planner") for slug, name in ORGANIZATIONS]
        self.leads = [_signed_in(stack, slug, f"{name}-lead") for slug, name in ORGANIZATIONS]
        self._tell_changes(stack)
        self._known = [row["pfaId"] for planner in self.planners for row in planner.records() if usable(row)]
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listeners = [planner.listen(self.tally.hear) for planner in self.planners]
        for listener in self._listeners:
            if not listener.connected.wait(15):
                raise DemoError("a socket did not connect within 15 s")

    def start(self) -> None:
        for planner in self.planners:
            self._keep_doing(COMMIT_EVERY_SECONDS, _commits(planner, self.sandbox, self.tally))
        for lead in self.leads:
            self._keep_doing(COMMIT_EVERY_SECONDS, lambda lead=lead: settle_conflicts(lead, self.tally))
            self._keep_doing(PULL_EVERY_SECONDS, lambda lead=lead: self._pull(lead))
        self._keep_doing(1.0, self._somebody_in_pems)

    def stop(self) -> None:
        """Nobody edits any more; the sockets stay."""
        self._ending.set()
        for thread in self._threads:
            thread.join(70)

    def hang_up(self) -> None:
        for listener in self._listeners:
            listener.stop()

    def told(self) -> dict[str, float]:
        """For a sample: edits accepted and confirmed so far, and the latency of the last minute."""
        counts = self.tally.counts
        p95 = round(self.tally.p95_seconds(), 3)
        return {
            "accepted": counts["accepted"],
            "told": counts["told"],
            "resolved": counts["resolved"],
            "p95Seconds": p95,
        }

    def _tell_changes(self, stack: Stack) -> None:
        secret = stack.environment("manage")["PEMS_WEBHOOK_SECRET"]
        self.sandbox.webhook(f"{stack.base_url}/api/pems/webhook/demo", secret)

    def _keep_doing(self, seconds: float, act: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._repeat, args=(seconds, act), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _repeat(self, seconds: float, act: Callable[[], None]) -> None:
        """On the beat, so that a slow answer does not lower the load; beats that were missed are left out."""
        due = time.monotonic()
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            try:
                act()
            except (DemoError, SandboxError, requests.RequestException) as error:
                self.tally.errors.append(str(error)[:300])
                self.tally.note("errors")
            due = max(due + seconds, time.monotonic())

    def _pull(self, lead: Planner) -> None:
        lead.call("POST", "/api/pems/pull", json={"organizationId": lead.organization})
        self.tally.note("pulls")

    def _somebody_in_pems(self) -> None:
        number = self.tally.counts["pems"]
        self.sandbox.edit(random.choice(self._known), {"equipment": f"EQ-{number:06}"}, modified_by="m.silva")
        self.tally.note("pems")


def _signed_in(stack: Stack, organization: str, username: str) -> Planner:
    planner = Planner(stack.base_url, organization, username, stack.options.demo_password)
    planner.sign_in()
    return planner


def _commits(planner: Planner, sandbox: SandboxProcess, tally: Tally) -> Callable[[], None]:
    """One commit per call: look at the next records, draft, write-sync."""
    shown, numbers = _shown(planner), count(1)
    fields = cycle(("model", "areaSilo", "manufacturer"))

    def commit() -> None:
        number, name = next(numbers), next(fields)
        rows = [next(shown) for _ in range(EDITS_PER_COMMIT)]
        items = [
            {
                "pfaId": row["pfaId"],
                "changes": {name: f"SOAK {number}"},
                "baseVersion": row["version"],
                "reason": "soak",
            }
            for row in rows
        ]
        saved = [item["modificationId"] for item in planner.save_drafts(items) if "error" not in item]
        tally.note("stale", len(items) - len(saved))
        if number % CLASH_EVERY == 0:
            sandbox.edit(rows[0]["pfaId"], {name: f"PEMS {number}"}, modified_by="a.nguyen")
            tally.note("clashes")
        with tally.lock:
            tally.under_way |= dict.fromkeys(saved, time.monotonic())
        body = {"organizationId": planner.organization, "modificationIds": saved, "reason": "soak"}
        answer = planner.call("POST", "/api/pems/write-sync", json=body)
        tally.note("accepted", answer["queuedCount"])
        tally.note("rejected", len(answer["rejected"]))

    return commit


def _shown(planner: Planner) -> Iterator[dict[str, Any]]:
    """Records as a planner pages through them, again and again; those somebody is at work on are left alone."""
    while True:
        cursor: str | None = None
        while True:
            query = {"limit": "25", **({"cursor": cursor} if cursor else {})}
            page = planner.call("GET", f"/api/pfa/{planner.organization}/records", params=query)
            yield from (row for row in page["items"] if usable(row) and row["syncStatus"] in FREE)
            cursor = page["nextCursor"]
            if cursor is None:
                break


def settle_conflicts(lead: Planner, tally: Tally) -> None:
    """Each open one, in turns for our side and for that of PEMS. One that moved meanwhile stays for the next round."""
    for conflict in lead.pages("/api/pems/conflicts", organizationId=lead.organization, status="unresolved"):
        resolution = "use_local" if tally.counts["resolved"] % 2 else "use_pems"
        body = {"resolution": resolution, "seenPemsVersion": conflict["pemsVersion"], "comment": "soak"}
        try:
            lead.call("POST", f"/api/pems/conflicts/{conflict['id']}/resolve", json=body)
        except DemoError as error:
            if "409" not in str(error):
                raise
        else:
            tally.note("resolved")
