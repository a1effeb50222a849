"""A running stack with short waits, and a planner who sees it only from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

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

    def edit(
        self, model: str, record: dict[str, Any] | None = None, *, planner: Planner | None = None
    ) -> tuple[str, str]:
        """Draft and commit: (modification id, PFA id). `planner`: of another organization."""
        record, planner = record or self.records.pop(), planner or self.planner
        body = {"changes": {"model": model}, "baseVersion": record["version"], "reason": "a test"}
        draft = planner.call("PUT", f"/api/pfa/{planner.organization}/drafts/{record['pfaId']}", json=body)
        wanted = {"organizationId": planner.organization, "modificationIds": [draft["modificationId"]]}
        queued = planner.call("POST", "/api/pems/write-sync", json=wanted)
        assert queued["queuedCount"] == 1, queued
        return draft["modificationId"], record["pfaId"]

    def look(self, modification_id: str, planner: Planner | None = None) -> dict[str, Any]:
        shown: dict[str, Any] = (planner or self.planner).call("GET", f"/api/pems/modifications/{modification_id}")
        return shown

    def demand_as_in_pems(self, pfa_id: str, organization: str = "RIO") -> None:
        """What is stored is what PEMS shows (I13), and was stored once (I7)."""
        shown = self.sandbox.record(pfa_id, organization)
        statement = "SELECT version, fields->>'model' FROM pems_sync_record WHERE pfa_id = %s"
        wait_until(
            lambda: self.sql(statement, pfa_id) == [(shown["version"], shown["model"])], 20,
            lambda: (shown, self.sql(statement, pfa_id)),
        )  # fmt: skip
        versions = (
            "SELECT v.version FROM pems_sync_recordversion v JOIN pems_sync_record r ON r.id = v.record_id "
            "WHERE r.pfa_id = %s GROUP BY v.version HAVING count(*) > 1"
        )
        assert not self.sql(versions, pfa_id), "a version was stored twice"

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Behind the scenes: rows of one statement, committed at once."""
        with psycopg.connect(self.stack.services.database_url, autocommit=True) as database:
            found = database.execute(statement, parameters)
            return found.fetchall() if found.description else []

    def meet(self, name: str, seats: Iterable[tuple[str, str]]) -> Path:
        """Arm a meeting: (boundary, id) each; whoever is at one of them dies when the last has come."""
        aside, armed = self.crash_points.with_name(name), self.crash_points / name
        aside.mkdir()
        for boundary, each in seats:
            (aside / f"{boundary}@{each}").touch()
        return aside.rename(armed)

    def wait_until_dead(self, armed: Path, seconds: float = 45) -> None:
        """Until whoever passed there was killed. Names the boundaries nobody came to."""
        wait_until(
            lambda: not armed.exists(), seconds,
            lambda: f"nobody came by {[each.name for each in armed.iterdir()] if armed.is_dir() else armed.name}",
        )  # fmt: skip

    def wait_for(
        self, modification_id: str, *states: str, seconds: float = 60, planner: Planner | None = None
    ) -> dict[str, Any]:
        """The modification once it is in one of the states. Fails with its timeline."""

        def now() -> dict[str, Any]:
            return self.look(modification_id, planner)

        wait_until(lambda: now()["status"] in states, seconds, now)
        return now()

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
