"""Carries the schedule out: answers of PEMS through the sandbox's controls, blows through signals."""

from __future__ import annotations

import contextlib
import heapq
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import redis
import requests
from redis.exceptions import RedisError

from deploy.local.stack import Stack
from deploy.sandbox.process import SandboxError, SandboxProcess
from tests.torture.schedule import ANSWERS, Fault

SHAKEN_SECONDS = 20.0
"""How long after the end of such a fault the API may still answer 5xx: servers restart, pools reconnect."""
SHAKES_THE_API = ("redis_flush", "redis_restart", "postgres_restart", "postgres_kill", "kill_web")


@dataclass(frozen=True)
class Done:
    """`began`, `ended`: monotonic times."""

    fault: Fault
    began: float
    ended: float


class FaultRunner(threading.Thread):
    """Runs until everything is done and undone, or `stop`; then `undo_all` leaves a healthy world behind."""

    def __init__(self, stack: Stack, plan: list[Fault], report: Callable[[str], None]) -> None:
        super().__init__(name="faults", daemon=True)
        self._stack, self._report = stack, report
        self._sandbox = SandboxProcess.at(stack.sandbox_url)
        self._plan = plan
        self._lasting: dict[str, Any] = {"switches": [], "outage": None}
        self._asleep: set[int] = set()
        self._lost_counts: Counter[str] = Counter()
        self._over = threading.Event()
        self.done: list[Done] = []
        self.counts: Counter[str] = Counter()

    def stop(self) -> None:
        self._over.set()

    def run(self) -> None:
        began, order = time.monotonic(), count()
        coming = [(fault.at, next(order), fault, False) for fault in self._plan]
        heapq.heapify(coming)
        while coming and not self._over.is_set():
            at, _, fault, is_undo = heapq.heappop(coming)
            if self._over.wait(max(0.0, began + at - time.monotonic())):
                return
            self._carry_out(fault, is_undo)
            if fault.seconds and not is_undo:
                heapq.heappush(coming, (fault.until, next(order), fault, True))

    def undo_all(self) -> None:
        for pid in list(self._asleep):
            self._wake(pid)
        self._lasting = {"switches": [], "outage": None}
        self._tell_pems({"rates": {}, "script": [], **self._lasting})

    def shaken(self, at: float) -> bool:
        """Whether PostgreSQL, Redis or web were being restarted at that monotonic time."""
        return any(
            each.fault.kind in SHAKES_THE_API and each.began - 0.5 <= at <= each.ended + SHAKEN_SECONDS
            for each in self.done
        )

    def struck(self) -> dict[str, int]:
        """Kind to how often it really struck: blows as they were dealt, answers as PEMS counted them."""
        counted = self._lost_counts + Counter(self._sandbox.stats()["faults"])
        answers = Counter({kind: number for kind, number in counted.items() if kind in ANSWERS})
        return dict(sorted((self.counts + answers).items()))

    # ------------------------------------------------------------------ one fault

    def _carry_out(self, fault: Fault, is_undo: bool) -> None:
        began = time.monotonic()
        try:
            self._undo(fault) if is_undo else self._do(fault)
        except (OSError, RedisError, KeyError) as error:
            self._report(f"{fault.kind} of {fault.target} missed: {error!r}")
            return
        if not is_undo and fault.kind not in ANSWERS:
            self.counts[fault.kind] += 1
            self._report(f"{fault.kind} {fault.target}" + (f" for {fault.seconds:g} s" if fault.seconds else ""))
        self.done.append(Done(fault, began, time.monotonic()))

    def _do(self, fault: Fault) -> None:
        match fault.kind:
            case kind if kind in ANSWERS:
                self._script(fault)
            case "clock_shift":
                pass  # the worker was started that way
            case "kill_pems":
                with contextlib.suppress(SandboxError, requests.RequestException):
                    self._lost_counts += Counter(self._sandbox.stats()["faults"])
                self._signal(fault.target, signal.SIGKILL)
                self._tell_pems(self._lasting)
            case "postgres_restart":
                self._signal(fault.target, signal.SIGINT)
            case "sigterm_writer":
                self._signal(fault.target, signal.SIGTERM)
            case "zombie":
                self._sleep(self._stack.supervisor.by_name()[fault.target])
            case "redis_flush":
                redis.Redis.from_url(self._stack.services.redis_url, socket_timeout=5).flushall()
            case "outage":
                self._lasting["outage"] = {"from": 0, "to": fault.seconds, "mode": fault.target}
                self._tell_pems({"outage": self._lasting["outage"]})
            case "idempotency_ignored" | "batch_absent":
                self._switch(fault.kind, on=True)
            case _:  # kill -9 of somebody
                self._signal(fault.target, signal.SIGKILL)

    def _undo(self, fault: Fault) -> None:
        match fault.kind:
            case "zombie":
                for pid in list(self._asleep):
                    self._wake(pid)
            case "outage":
                self._lasting["outage"] = None
                self._tell_pems({"outage": None})
            case _:
                self._switch(fault.kind, on=False)

    def _script(self, fault: Fault) -> None:
        line: dict[str, Any] = {"kind": fault.kind, "operation": fault.target, "times": fault.times}
        if fault.kind in ("slow", "late_apply"):
            line["seconds"] = fault.detail
        if fault.kind in ("status_500", "status_502", "status_504"):
            line["applied"] = fault.detail > 3.0
        if fault.kind in ("version_jump", "batch_partial"):
            line["n"] = 1 + int(fault.detail)
        with contextlib.suppress(SandboxError, requests.RequestException):
            left = [each for each in self._sandbox.faults()["script"] if each["times"]]
            self._sandbox.faults(script=[*left[-20:], line])

    def _switch(self, name: str, *, on: bool) -> None:
        switches = set(self._lasting["switches"]) - {name} | ({name} if on else set())
        self._lasting["switches"] = sorted(switches)
        self._tell_pems({"switches": self._lasting["switches"]})

    def _tell_pems(self, parts: dict[str, Any]) -> None:
        """Also when it was killed a moment ago."""
        for _ in range(100):
            try:
                self._sandbox.faults(**parts)
                return
            except (SandboxError, requests.RequestException):
                time.sleep(0.1)
        raise OSError("the sandbox did not come back within 10 s")

    # ------------------------------------------------------------------ signals

    def _signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self._stack.supervisor.by_name()[name], number)

    def _sleep(self, pid: int) -> None:
        """The whole family: a pool's children share the session of their parent."""
        os.killpg(pid, signal.SIGSTOP)
        self._asleep.add(pid)

    def _wake(self, pid: int) -> None:
        self._asleep.discard(pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGCONT)
