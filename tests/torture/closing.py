"""Support and the last person in the office: lifts automatic pauses all the time, and in the end decides what waits."""

from __future__ import annotations

import threading

from tests.torture.calling import Caller, GaveUp
from tests.torture.planners import resolve

LOOK_SECONDS = 1.5


class Closer(threading.Thread):
    """An admin of one organization."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(name=f"closer of {caller.organization}", daemon=True)
        self._caller = caller
        self._over, self._settling = threading.Event(), threading.Event()
        self._turn = 0

    def settle_everything(self) -> None:
        """From now on every conflict is decided and every poisoned edit looked at."""
        self._settling.set()

    def stop(self) -> None:
        self._over.set()
        self.join(timeout=70)

    def run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self._resume_if_paused()
                if self._settling.is_set():
                    self._settle()
            except GaveUp:
                continue

    def _resume_if_paused(self) -> None:
        slug = self._caller.organization
        status = self._caller.call("GET", "/api/pems/sync-status", params={"organizationId": slug})
        if status.ok and status.body["paused"]:
            self._caller.call("POST", f"/api/pems/organizations/{slug}/resume", json={})

    def _settle(self) -> None:
        """PEMS's values and ours by turns; ours are refused where the record is gone or discontinued: then PEMS's."""
        for conflict in self._caller.items("/api/pems/conflicts", status="unresolved"):
            self._turn += 1
            word = "use_local" if self._turn % 2 else "use_pems"
            if not resolve(self._caller, conflict, word).ok:
                resolve(self._caller, conflict, "use_pems")
        slug = self._caller.organization
        reply = self._caller.call("GET", "/api/pems/dead-letters", params={"organizationId": slug, "reason": "poison"})
        ids = [each for group in reply.body["items"] for each in group["modificationIds"]] if reply.ok else []
        if ids:
            body = {"organizationId": slug, "ids": ids, "reason": "looked at after the storm"}
            self._caller.call("POST", "/api/pems/dead-letters/discard", json=body)
