"""People who work in PEMS itself: they change, discontinue and remove the records that planners edit here."""

from __future__ import annotations

import threading
import time
from random import Random

import requests

from deploy.sandbox.process import SandboxError, SandboxProcess

PAUSES = (0.5, 1.8)
MOST_REMOVED = 2
"""Per organization: more than 5 % missing would stop the sweep (the brake), which is another test."""


class PemsUser(threading.Thread):
    def __init__(self, sandbox_url: str, *, seed: int, organization: str, hot: list[str], cold: list[str]) -> None:
        super().__init__(name=f"pems user of {organization}", daemon=True)
        self._sandbox = SandboxProcess.at(sandbox_url)
        self._random = Random(f"{seed} pems {organization}")
        self._hot, self._cold, self._name = hot, cold, f"user.{organization.removeprefix('org-')}"
        self._removed = 0
        self._number = 0
        self._over = threading.Event()

    def stop(self) -> None:
        self._over.set()

    def run(self) -> None:
        while not self._over.is_set():
            act, drawn = self._random.random(), Random(self._random.getrandbits(64))
            pause = self._random.uniform(*PAUSES)
            self._patiently(act, drawn)
            self._over.wait(pause)

    def _patiently(self, act: float, drawn: Random) -> None:
        """PEMS may be dead for a moment. A refusal is a record that is gone: fine."""
        for _ in range(20):
            try:
                self._act(act, drawn)
            except SandboxError:
                return
            except requests.RequestException:
                time.sleep(0.5)
            else:
                return

    def _act(self, act: float, drawn: Random) -> None:
        self._number += 1
        mark = f"{self._name} {self._number}"
        hot, cold, field = drawn.choice(self._hot), drawn.choice(self._cold), drawn.choice(("model", "areaSilo"))
        if act < 0.60:
            self._sandbox.edit(hot, {field: mark}, modified_by=self._name)
        elif act < 0.85:
            self._sandbox.edit(hot, {"equipment": f"EQ-{self._number}"}, modified_by=self._name)
        elif act < 0.93:
            self._sandbox.edit(cold, {"isDiscontinued": True}, modified_by=self._name)
        elif act < 0.96 and self._removed < MOST_REMOVED:
            self._sandbox.remove(cold)
            self._removed += 1
        else:
            self._sandbox.edit(cold, {field: mark}, modified_by=self._name, bump=drawn.randrange(1, 4))
