"""What the load proofs ask of both sides: the database for states and burnt attempts, PEMS for what arrived, and when."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from deploy.local.stack import Stack
from deploy.sandbox.process import SandboxProcess

_RUN = "FROM pems_sync_modification WHERE committed_at IS NOT NULL AND changes ->> 'model' LIKE %s"

_EVER = f"""
SELECT count(DISTINCT modification_id) FROM pems_sync_journalentry
WHERE after ->> 'state' = %s AND modification_id IN (SELECT id {_RUN})
"""  # noqa: S608  (our own text)


@dataclass(frozen=True)
class Watch:
    """Of the edits whose `model` begins with `tag`."""

    stack: Stack
    sandbox: SandboxProcess
    tag: str

    def rows(self, what: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.stack.services.database_url) as database:
            return database.execute(what, values).fetchall()  # type: ignore[call-overload]  # our own text

    def states(self) -> dict[str, int]:
        return dict(self.rows(f"SELECT state, count(*) {_RUN} GROUP BY state", f"{self.tag}%"))  # type: ignore[arg-type]

    def burnt(self) -> int:
        """Attempts that count as failed, over all edits."""
        return int(self.rows(f"SELECT coalesce(sum(attempts), 0) {_RUN}", f"{self.tag}%")[0][0])

    def ever(self, state: str) -> int:
        """Edits that were in this state at any time, by the journal."""
        found = self.rows(_EVER, state, f"{self.tag}%")
        return int(found[0][0])

    def writes(self) -> list[dict[str, Any]]:
        """What PEMS applied of them, oldest first."""
        audit = self.sandbox.audit()
        return [each for each in audit if str(each["changes"].get("model", "")).startswith(self.tag)]

    def written_once(self) -> bool:
        """Every confirmed one, and no other, by PEMS's own count."""
        times = Counter(each["pfaId"] for each in self.writes())
        return set(times.values()) <= {1} and len(times) == self.states().get("confirmed", 0)

    def wait_for(self, holds: Callable[[dict[str, int]], bool], seconds: float) -> dict[str, int]:
        """The states once they are as wanted; TimeoutError, naming them, when they are not in time."""
        deadline = time.monotonic() + seconds
        while not holds(states := self.states()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:g} s: {states}")
            time.sleep(0.1)
        return states


def at(entry: dict[str, Any]) -> float:
    """Seconds since the epoch at which PEMS applied it."""
    return datetime.fromisoformat(entry["at"]).timestamp()


def set_batch_size(stack: Stack, size: int) -> None:
    with psycopg.connect(stack.services.database_url) as database:
        database.execute("UPDATE pems_sync_connection SET batch_size = %s", [size])
