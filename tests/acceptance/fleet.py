"""A running stack with short waits, and a planner who sees it only from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.demo.edits import usable
from deploy.demo.planner import Planner
from deploy.local.options import Options
from deploy.local.stack import Stack
from deploy.sandbox.process import SandboxProcess

ROLES = frozenset({"sandbox", "worker-write", "worker-control", "beat", "web"})
SHORT_WAITS = {
    "PEMS_REQUEST_TIMEOUT": "2",
    "CLAIM_LEASE_SECONDS": "3",
    "PROOF_DELAYS": "0.5,1,2",
    "WRITE_SYNC_RETRY_DELAY": "0.5",
    "API_USER_RATE_LIMIT": "1000",
}


@dataclass
class Fleet:
    """`records`: unspoilt ones of RIO that no test has used yet."""

    stack: Stack
    planner: Planner
    sandbox: SandboxProcess
    records: list[dict[str, Any]]

    @property
    def crash_points(self) -> Path:
        """Where boundaries are armed: see pems_sync/crashpoints.py."""
        return self.stack.options.var_dir / "crash-points"

    def edit(self, model: str, record: dict[str, Any] | None = None) -> tuple[str, str]:
        """Draft and commit: (modification id, PFA id)."""
        record = record or self.records.pop()
        body = {"changes": {"model": model}, "baseVersion": record["version"], "reason": "a test"}
        draft = self.planner.call("PUT", f"/api/pfa/org-rio/drafts/{record['pfaId']}", json=body)
        wanted = {"organizationId": "org-rio", "modificationIds": [draft["modificationId"]]}
        queued = self.planner.call("POST", "/api/pems/write-sync", json=wanted)
        assert queued["queuedCount"] == 1, queued
        return draft["modificationId"], record["pfaId"]

    def look(self, modification_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.planner.call("GET", f"/api/pems/modifications/{modification_id}")
        return shown

    def wait_for(self, modification_id: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        """The modification once it is in one of the states. Fails with its timeline."""
        wait_until(lambda: self.look(modification_id)["status"] in states, seconds, lambda: self.look(modification_id))
        return self.look(modification_id)

    def applied(self, pfa_id: str) -> list[dict[str, Any]]:
        """Writes to the record that PEMS applied for us, by its own count."""
        return [entry for entry in self.sandbox.audit(pfa_id) if entry["source"] == "api"]


def wait_until(holds: Callable[[], bool], seconds: float, otherwise: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {otherwise()}"
        time.sleep(0.1)


@contextmanager
def fleet(place: Path, *, records: int = 300, knobs: dict[str, str] | None = None, workers: int = 2) -> Iterator[Fleet]:
    (place / "crash-points").mkdir(parents=True)
    options = Options(
        var_dir=place, roles=ROLES, records=records, write_workers=workers, own_services=True,
        passed_on=SHORT_WAITS | {"PEMS_CRASH_POINTS": str(place / "crash-points")} | (knobs or {}),
    )  # fmt: skip
    with Stack(options) as stack:
        planner = Planner(stack.base_url, "org-rio", "rio-planner", options.demo_password)
        planner.sign_in()
        usable_ones = [record for record in planner.records() if usable(record)]
        yield Fleet(stack, planner, SandboxProcess.at(stack.sandbox_url), usable_ones)
