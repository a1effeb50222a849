"""Keeps named roles running: one log per process, a new process for one that ends by itself, an orderly end for all."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from deploy.local.program import Program
from deploy.local.state import StateDirectory, write_atomically

ROLES = ("web", "worker-write", "worker-control", "beat", "flower", "redis", "postgres", "sandbox")
# Who ends first, and how many seconds after the order to stop its stragglers are killed: 20 s are promised for all.
STAGES: tuple[tuple[float, tuple[str, ...]], ...] = (
    (6.0, ("web", "beat")),
    (13.0, ("worker-write", "worker-control")),
    (14.5, ("flower", "sandbox")),
    (15.0, ("redis",)),
    (18.0, ("postgres",)),
)
LOOK_SECONDS = 0.1
STABLE_SECONDS = 5.0
PATIENT_RESTARTS = 8


@dataclass
class Kept:
    """One process that should run, and how its restarts went."""

    role: str
    program: Program
    launched_at: float
    quick_ends: int = 0
    restart_at: float | None = None


class Supervisor:
    """Its thread restarts what ended. Watch and stop from a thread that outlives the processes (see tether.py)."""

    def __init__(self, state: StateDirectory, report: Callable[[str], None] = lambda sentence: None) -> None:
        self._state, self._report = state, report
        self._kept: list[Kept] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="supervisor", daemon=True)
        self._thread.start()

    def watch(self, role: str, programs: Iterable[Program]) -> None:
        """Keeps these programs running from now on, launching those that do not run yet."""
        with self._lock:
            for program in programs:
                if not program.running:
                    program.launch()
                self._kept.append(Kept(role, program, time.monotonic()))
            self._write_pids()

    def pids(self) -> dict[str, list[int]]:
        """Main process ids by role, every role named, those that run now."""
        running = [kept for kept in list(self._kept) if kept.program.running]
        return {role: [kept.program.pid for kept in running if kept.role == role] for role in ROLES}

    def by_name(self) -> dict[str, int]:
        """Main process id by process name, as in `worker-write-2`, of those that run now."""
        return {kept.program.name: kept.program.pid for kept in list(self._kept) if kept.program.running}

    def quick_ends(self, role: str) -> int:
        """How often a process of this role has ended soon after its start, in a row: above 1 something is wrong."""
        return max((kept.quick_ends for kept in list(self._kept) if kept.role == role), default=0)

    def stop_role(self, role: str, seconds: float = 10.0) -> None:
        """Ends one role until it is watched again: SIGTERM, and SIGKILL for who is left after the seconds."""
        self._stop([role], time.monotonic() + seconds)

    def stop(self) -> None:
        """Ends everything, within 20 seconds, in the order of STAGES."""
        began = time.monotonic()
        others = {kept.role for kept in self._kept} - {role for _, roles in STAGES for role in roles}
        self._stop([*others, *STAGES[0][1]], began + STAGES[0][0])
        for seconds, roles in STAGES[1:]:
            self._stop(roles, began + seconds)
        self._over.set()  # only now: what this thread has started ends with it
        self._thread.join()

    def _stop(self, roles: Iterable[str], until: float) -> None:
        with self._lock:
            ending = [kept.program for kept in self._kept if kept.role in roles]
            self._kept = [kept for kept in self._kept if kept.role not in roles]
        for program in ending:
            program.ask_to_stop()
        for program in ending:
            if not program.wait(until):
                program.kill()
        self._write_pids()

    def _keep(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with self._lock:
                changed = [self._look_after(kept, time.monotonic()) for kept in self._kept]
                if any(changed):
                    self._write_pids()

    def _look_after(self, kept: Kept, now: float) -> bool:
        """True when the process ended or was launched again."""
        if kept.program.running:
            return False
        ended_just_now = kept.restart_at is None
        if kept.restart_at is None:
            kept.quick_ends = kept.quick_ends + 1 if now - kept.launched_at < STABLE_SECONDS else 0
            kept.restart_at = now + restart_delay_seconds(kept.quick_ends)
        if now < kept.restart_at:
            return ended_just_now
        try:
            kept.program.launch()
        except OSError:  # no memory or no process left at the moment: the others need this thread alive
            kept.restart_at = now + 1.0
            return ended_just_now
        kept.launched_at, kept.restart_at = time.monotonic(), None
        self._report(f"{kept.program.name} ended by itself and was started again (process {kept.program.pid}).")
        return True

    def _write_pids(self) -> None:
        write_atomically(self._state.path / "pids.json", json.dumps(self.pids()), mode=0o644)


def restart_delay_seconds(quick_ends: int) -> float:
    """At once for a process that had been fine; never over 2 s for the first restarts, then up to half a minute."""
    if quick_ends <= 1:
        return 0.0
    return min(0.1 * 2.0 ** min(quick_ends, 10), 2.0 if quick_ends <= PATIENT_RESTARTS else 30.0)
