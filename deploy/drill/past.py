"""The life of a database until it is lost: edits, backups of both kinds, more edits, and a PEMS that moves on."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.demo.edits import usable
from deploy.demo.planner import DemoError, Planner
from deploy.local import backup
from deploy.local.options import Options
from deploy.local.postgres import Postgres
from deploy.local.stack import Stack
from deploy.local.state import StateDirectory
from deploy.sandbox.process import SandboxProcess

ROLES = frozenset({"worker-write", "worker-control", "beat", "web"})
SHORT_WAITS = {
    "PEMS_REQUEST_TIMEOUT": "2",
    "CLAIM_LEASE_SECONDS": "3",
    "PROOF_DELAYS": "0.5,1,2",
    "WRITE_SYNC_RETRY_DELAY": "0.5",
    "API_USER_RATE_LIMIT": "1000",
}
ORGANIZATION = "org-rio"
Report = Callable[[str], None]


@dataclass(frozen=True)
class Edit:
    """One committed edit. `values` are unlike those of any other: PEMS's audit is counted by them."""

    id: str
    pfa_id: str
    values: dict[str, str]
    committed_at: datetime


@dataclass
class Backups:
    """Where they are, when the dump was taken, and when the last segment that is out of the house was closed."""

    base: Path
    dump: Path
    wal: Path
    dumped_at: datetime
    archived_at: datetime


@dataclass
class Past:
    """Runs until `lose`. `edits` in the order in which they were committed."""

    place: Path
    sandbox: SandboxProcess
    stack: Stack
    report: Report
    edits: list[Edit] = field(default_factory=list)
    _unused: list[dict[str, Any]] = field(default_factory=list)

    def begin(self) -> None:
        self.planner = self._person("rio-planner")
        self.second = self._person("rio-lead")
        self.admin = self._person("rio-admin")
        self._unused = [record for record in self.planner.records() if usable(record)]

    def live(self, *, some: int) -> Backups:
        """`some` edits of each kind, two at least."""
        command(self.stack.options.var_dir, "base", self.place)
        self.report("Base backup taken.")
        self._settled(some)
        self._trouble()
        lanes = self._waiting(some)
        dumped_at = _now()
        command(self.stack.options.var_dir, "dump", self.place / "pems.dump")
        self.report(f"Dump taken with {2 * some} edits waiting.")
        self._lock(lanes[-1])
        self._let_go()
        self._take_back(lanes[0])
        self._settled(some)
        lanes = self._waiting(some)
        archived_at = self._archive()
        self.report(f"Last WAL segment archived with {2 * some} other edits waiting.")
        self._lock(lanes[-1])
        self._let_go()
        self._take_back(lanes[0])
        self._decide()
        self._settled(some)
        return Backups(self.place, self.place / "pems.dump", self.place / "wal", dumped_at, archived_at)

    def lose(self) -> None:
        """The database server is killed, and everything else ends."""
        for pid in self.stack.pids()["postgres"]:
            os.kill(pid, signal.SIGKILL)
        self.stack.stop()
        self.sandbox.clear_faults()

    def _person(self, name: str) -> Planner:
        person = Planner(self.stack.base_url, ORGANIZATION, name, self.stack.options.demo_password)
        person.sign_in()
        return person

    def _settled(self, some: int) -> None:
        for _ in range(some):
            self._edit(self.planner, self._unused.pop(), "model")
        self._quiet()

    def _trouble(self) -> None:
        """One conflict, one dead letter, one draft."""
        clashing, refused, kept = (self._unused.pop() for _ in range(3))
        self.sandbox.edit(clashing["pfaId"], {"model": "of PEMS"})
        self._edit(self.planner, clashing, "model")
        self.sandbox.script("item_422", pfaId=refused["pfaId"])
        self.sandbox.script("status_422", pfaId=refused["pfaId"])
        self._edit(self.planner, refused, "model")
        self._quiet()
        self.sandbox.clear_faults()
        self._draft(self.planner, kept, {"model": "a draft"})

    def _waiting(self, some: int) -> list[list[Edit]]:
        """Lanes of two authors, held back by a pause."""
        self.admin.call("POST", f"/api/pems/organizations/{ORGANIZATION}/pause", json={"reason": "a drill"})
        records = [self._unused.pop() for _ in range(some)]
        return [
            [self._edit(self.planner, record, "model"), self._edit(self.second, record, "areaSilo")]
            for record in records
        ]

    def _let_go(self) -> None:
        self.admin.call("POST", f"/api/pems/organizations/{ORGANIZATION}/resume")
        self._quiet()

    def _lock(self, lane: list[Edit]) -> None:
        """PEMS keeps this record locked until the database is lost: only the restored one can send these."""
        for kind in ("item_423", "status_423"):
            self.sandbox.script(kind, pfaId=lane[0].pfa_id, times=None)

    def _take_back(self, lane: list[Edit]) -> None:
        """A person in PEMS reverts what has just landed: sent again, it would undo that."""
        self.sandbox.edit(lane[1].pfa_id, {"areaSilo": "as PEMS wants it"})

    def _decide(self) -> None:
        """The conflict, for our side."""
        conflicts = self.planner.call("GET", "/api/pems/conflicts", params={"organizationId": ORGANIZATION})["items"]
        for conflict in conflicts:
            body = {"resolution": "use_local", "seenPemsVersion": conflict["pemsVersion"]}
            self.planner.call("POST", f"/api/pems/conflicts/{conflict['id']}/resolve", json=body)
        self._quiet()

    def _archive(self) -> datetime:
        """Close the segment, wait until it is archived, and bring the archive out of the house."""
        postgres = Postgres.of_running(StateDirectory(self.stack.options.var_dir))
        at = _now()
        [(name,)] = postgres.execute("SELECT pg_walfile_name(pg_switch_wal())")
        archived = postgres.directory("wal-archive") / str(name)
        until(archived.exists, f"segment {name} was not archived")
        shutil.copytree(archived.parent, self.place / "wal")
        return at

    def _draft(self, person: Planner, record: dict[str, Any], changes: dict[str, str]) -> str:
        body = {"changes": changes, "baseVersion": record["version"], "reason": "a drill"}
        path = f"/api/pfa/{ORGANIZATION}/drafts/{record['pfaId']}"
        return str(person.call("PUT", path, json=body)["modificationId"])

    def _edit(self, person: Planner, record: dict[str, Any], name: str) -> Edit:
        values = {name: f"drill {len(self.edits)}"}
        draft = self._draft(person, record, values)
        wanted = {"organizationId": ORGANIZATION, "modificationIds": [draft]}
        queued = person.call("POST", "/api/pems/write-sync", json=wanted)
        if queued["queuedCount"] != 1:
            raise DemoError(f"{record['pfaId']} was not queued: {queued}")
        self.edits.append(Edit(draft, record["pfaId"], values, _now()))
        return self.edits[-1]

    def _quiet(self) -> None:
        wait_for_quiet(self.planner)


def command(var_dir: Path, *words: str | Path) -> None:
    """`python -m deploy.local.backup`, as the runbook says it."""
    if backup.main([str(word) for word in words], {"VAR_DIR": str(var_dir)}):
        raise DemoError(f"deploy.local.backup {words[0]} failed")


def wait_for_quiet(planner: Planner) -> None:
    """Until the machine has nothing to do any more."""

    def quiet() -> bool:
        state = planner.status()
        return not state["paused"] and not state["totalQueued"] + state["processing"] + state["unknown"]

    until(quiet, "the edits did not come to rest")


def options(place: Path, sandbox: SandboxProcess, roles: frozenset[str]) -> Options:
    return Options(
        var_dir=place, roles=roles, pems_url=sandbox.url, own_services=True, write_workers=1, pull=bool(roles),
        passed_on=SHORT_WAITS,
    )  # fmt: skip


def until(done: Callable[[], bool], failure: str, *, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise DemoError(f"{failure} within {seconds:g} s")
        time.sleep(0.2)


def _now() -> datetime:
    return datetime.now(UTC)
