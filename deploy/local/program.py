"""A child process that can be started, ended and started again: what the servers and the supervisor have in common."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.account import Account

ROOT = Path(__file__).resolve().parents[2]
TETHER = Path(__file__).with_name("tether.py")


class StackError(Exception):
    """What is in the way and what to do about it, in a sentence for the person at the terminal."""


@dataclass
class Program:
    """One command line and the process that currently runs it.

    The process has a session of its own, so that Ctrl-C at the terminal reaches only us and everything ends in our
    order, and so that `kill` takes its descendants along. It is tied to the thread that launched it (see tether.py).
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cwd: Path = ROOT
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    before_launch: Callable[[], None] = lambda: None
    process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    def launch(self) -> None:
        """Starts the process; returns before it is ready."""
        self.before_launch()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                tied(self.argv, self.death_signal, self.account),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.env),
                cwd=self.cwd,
                start_new_session=True,
            )

    def ask_to_stop(self) -> None:
        if self.process and self.running:
            self.process.send_signal(self.stop_signal)

    def wait(self, until: float) -> bool:
        """True when the process has ended before the monotonic time `until`."""
        if self.process is None:
            return True
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Ends the process and everything in its session at once, and reaps it."""
        if self.process and self.running:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self, seconds: float) -> None:
        self.ask_to_stop()
        if not self.wait(time.monotonic() + seconds):
            self.kill()

    def last_words(self, lines: int = 15) -> str:
        """The end of the log, for an error message."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def tied(argv: tuple[str, ...], death_signal: signal.Signals, account: Account | None = None) -> list[str]:
    """The command line that runs `argv` tied to the calling thread, as `account` when there is one."""
    who = f"{account.user_id}:{account.group_id}" if account else "-"
    return [sys.executable, "-I", "-S", str(TETHER), str(int(death_signal)), who, str(os.getpid()), *argv]
