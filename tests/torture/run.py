"""One run: a stack, actors, faults; then quiet, and the count on both sides."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from deploy.local.options import Options
from deploy.local.program import ROOT
from deploy.local.stack import Stack
from deploy.sandbox.process import SandboxProcess
from tests.torture import ledger
from tests.torture.calling import Answers, Caller
from tests.torture.closing import Closer
from tests.torture.evidence import story
from tests.torture.faults import FaultRunner
from tests.torture.invariants import Watch
from tests.torture.listeners import Listener
from tests.torture.pems_users import PemsUser
from tests.torture.planners import Accepted, Person
from tests.torture.schedule import SHIFTED, WEB_PROCESSES, WRITE_WORKERS, schedule
from tests.torture.traffic import arrivals, over_limit
from tests.torture.verdict import Findings, ends, judge_edits, judge_inside, judge_sockets

ORGANIZATIONS = ("org-rio", "org-portarthur", "org-holng")
ROLES = ("planner", "lead", "admin")
RECORDS = 300
HOT_RECORDS, COLD_RECORDS = 10, 30
"""Per organization: everybody works on the hot ones; on the cold ones there is only sometimes somebody."""
SHORT_WAITS = {
    "PEMS_REQUEST_TIMEOUT": "2",
    "CLAIM_LEASE_SECONDS": "3",
    "PROOF_DELAYS": "0.5,1,2",
    "WRITE_SYNC_RETRY_DELAY": "0.5",
    "PULL_INTERVAL_SECONDS": "5",
    "API_USER_RATE_LIMIT": "1000",
}
QUIET_SECONDS = 90.0
STORIES = 12
_UNFINISHED = """
    SELECT (SELECT count(*) FROM pems_sync_namedread),
           (SELECT count(*) FROM conflicts_conflict WHERE resolved_at IS NULL)
"""


@dataclass
class Result:
    """`figures` is the last line; `sentences` and `stories` are for people."""

    figures: dict[str, Any]
    sentences: dict[str, list[str]]
    stories: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not any(self.sentences.values())


def torture(
    seed: int, minutes: float, place: Path, report: Callable[[str], None], *, quiet: float = QUIET_SECONDS
) -> Result:
    """Raises StackError when the stack does not even start."""
    plan = schedule(seed, minutes)
    shift = next(fault.detail for fault in plan if fault.kind == "clock_shift")
    options = Options(
        var_dir=place, roles=frozenset({"sandbox", "worker-write", "worker-control", "beat", "web"}), records=RECORDS,
        write_workers=WRITE_WORKERS, web_processes=WEB_PROCESSES, own_services=True, passed_on=SHORT_WAITS,
        extra_env={SHIFTED: _off_clock(shift)},
    )  # fmt: skip
    began = time.monotonic()
    with Stack(options) as stack:
        report(f"the stack is up after {time.monotonic() - began:.0f} s")
        return Storm(stack, seed, report).run(plan, minutes * 60.0, quiet)


def _off_clock(shift: float) -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).with_name("shifted")), "CLOCK_SHIFT_SECONDS": str(shift)}


class Storm:
    """Actors and faults on a running stack."""

    def __init__(self, stack: Stack, seed: int, report: Callable[[str], None]) -> None:
        self._stack, self._seed, self._report = stack, seed, report
        self._sandbox = SandboxProcess.at(stack.sandbox_url)
        self._answers, self._accepted, self._found = Answers(), Accepted(), Findings()

    def run(self, plan: Sequence[Any], seconds: float, quiet: float) -> Result:
        self._prepare()
        watch = Watch(self._stack.services.database_url, self._stack.sandbox_url)
        faults = FaultRunner(self._stack, list(plan), self._report)
        listeners = [Listener(self._signed_in[slug, "planner"].twin()) for slug in ORGANIZATIONS]
        closers = [Closer(self._signed_in[slug, "admin"]) for slug in ORGANIZATIONS]
        people = [person for slug in ORGANIZATIONS for person in self._people(slug)]
        for listener in listeners:
            listener.start()
            listener.connected.wait(15)
        actors = [watch, faults, *closers, *people]
        for actor in actors:
            actor.start()
        time.sleep(seconds)
        for each in (*people, faults):
            each.stop()
        for each in (*people, faults):
            each.join(timeout=70)
        return self._close(watch, faults, listeners, closers, quiet)

    def _prepare(self) -> None:
        people = [(slug, role) for slug in ORGANIZATIONS for role in ROLES]
        with ThreadPoolExecutor(4) as pool:
            self._signed_in = dict(zip(people, pool.map(lambda person: self._caller(*person), people), strict=True))
        self._records = {slug: self._usable(slug) for slug in ORGANIZATIONS}
        secret = self._stack.environment("manage")["PEMS_WEBHOOK_SECRET"]
        self._sandbox.webhook(f"{self._stack.web_urls[-1]}/api/pems/webhook/demo", secret, repeat=0.2)
        time.sleep(1.1)  # so that the peak counted from here on is the run's own
        self._sandbox.reset_stats()

    def _usable(self, slug: str) -> tuple[list[str], list[str]]:
        caller = self._signed_in[slug, "planner"]
        rows = caller.call("GET", f"/api/pfa/{slug}/records", params={"limit": "200"}).body["items"]
        names = [
            row["pfaId"] for row in rows
            if not row["fields"]["isDiscontinued"] and not row["fields"]["isActualized"] and row["fields"]["forecastEnd"]
        ]  # fmt: skip
        return names[:HOT_RECORDS], names[HOT_RECORDS : HOT_RECORDS + COLD_RECORDS]

    def _caller(self, slug: str, role: str) -> Caller:
        username = f"{slug.removeprefix('org-')}-{role}"
        caller = Caller(self._stack.web_urls, slug, username, self._stack.options.demo_password, self._answers)
        caller.sign_in()
        return caller

    def _people(self, slug: str) -> list[Person | PemsUser]:
        hot, cold = self._records[slug]
        here = [
            Person(
                self._signed_in[slug, role], seed=self._seed, hot=hot, cold=cold, accepted=self._accepted,
                is_lead=role == "lead",
            )
            for role in ("planner", "lead")
        ]  # fmt: skip
        return [*here, PemsUser(self._stack.sandbox_url, seed=self._seed, organization=slug, hot=hot, cold=cold)]

    # ------------------------------------------------------------------ the end

    def _close(
        self, watch: Watch, faults: FaultRunner, listeners: list[Listener], closers: list[Closer], quiet: float
    ) -> Result:
        faults.undo_all()
        self._report("the storm is over: waiting for quiet")
        began, conflicts = time.monotonic(), self._conflicts()
        for closer in closers:
            closer.settle_everything()
        self._await_quiet(quiet)
        self._report(f"nothing on its way after {time.monotonic() - began:.0f} s: two full sweeps")
        self._inside("sweep")
        self._await_quiet(quiet / 3)
        self._report(f"quiet after {time.monotonic() - began:.0f} s")
        for closer in closers:
            closer.stop()
        watch.look()
        watch.stop()
        inside = self._inside()
        self._await_sockets(listeners)
        return self._judge(watch, faults, listeners, inside, conflicts)

    def _await_quiet(self, seconds: float) -> None:
        """Nothing on its way and nothing waiting for a person."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not any(self._unfinished()):
                return
            time.sleep(0.5)
        on_their_way, unread, unresolved = self._unfinished()
        self._report(f"no quiet within {seconds:g} s: {on_their_way} edits, {unresolved} conflicts, {unread} reads due")

    def _unfinished(self) -> tuple[int, int, int]:
        """Edits on their way, records to be read, conflicts that wait for a person."""
        url = self._stack.services.database_url
        with psycopg.connect(url) as database:
            unread, unresolved = database.execute(_UNFINISHED).fetchone() or (0, 0)
        return len(ledger.open_edits(url)), unread, unresolved

    def _conflicts(self) -> int:
        with psycopg.connect(self._stack.services.database_url) as database:
            row = database.execute("SELECT count(*) FROM conflicts_conflict").fetchone()
        return int(row[0]) if row else 0

    def _inside(self, *words: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.torture.inside", *words]
        environment = self._stack.environment("manage")
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        log = self._stack.options.var_dir / "log" / f"inside-{'-'.join(words) or 'checks'}.log"
        log.write_text(done.stdout + done.stderr)
        if done.returncode:
            self._found.add("differences", f"the checks after the storm failed: {done.stderr[-800:]}")
            return {"broken": [], "verify": {"checks": []}}
        told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return told

    def _await_sockets(self, listeners: list[Listener]) -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            told = ledger.events(self._stack.services.database_url)
            if all(each.last == max((event[0] for event in told[each.organization]), default=0) for each in listeners):
                break
            time.sleep(0.5)
        for listener in listeners:
            listener.stop()

    def _judge(
        self, watch: Watch, faults: FaultRunner, listeners: list[Listener], inside: dict[str, Any], conflicts: int
    ) -> Result:
        found, url = self._found, self._stack.services.database_url
        edits, audit, stats = ledger.edits(url), self._sandbox.audit(), self._sandbox.stats()
        judge_edits(found, self._accepted.edits, edits, audit)
        judge_inside(found, inside)
        told = ledger.events(url)
        for each in listeners:
            judge_sockets(found, told[each.organization], each.kept, after=each.after, who=each.organization)
            for gap in each.gaps:
                found.add("socketGaps", gap)
        for sentence in sorted(watch.double_in_flight):
            found.add("doubleInFlight", sentence)
        for sentence in sorted(watch.applied_twice):
            found.add("appliedTwice", sentence)
        for sentence in over_limit(arrivals(self._stack.options.var_dir / "sandbox.jsonl"), stats["limit"]):
            found.add("limitViolations", sentence)
        for bad in self._answers.bad:
            if bad.is_hang or bad.is_malformed or not faults.shaken(bad.ended):
                found.add("unexpectedErrors", bad.what)
        figures = {
            "seed": self._seed, **ends(edits), "conflicts": conflicts, **found.figures(),
            "peakRequestsPerSecond": stats["peakRequestsPerSecond"], "faults": faults.struck(),
        }  # fmt: skip
        stories = [line for each in sorted(found.about)[:STORIES] for line in story(url, each, audit)]
        self._tell_oddities()
        return Result(figures, {name: some for name, some in found.sentences.items() if some}, stories)

    def _tell_oddities(self) -> None:
        self._report(f"answers: {dict(sorted(self._answers.statuses.items()))}")
        for sentence in self._accepted.oddities[:10]:
            self._report(f"note: {sentence[:400]}")
