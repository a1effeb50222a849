"""Planners and leads at work. What each does next comes from the seed; what it finds depends on the others."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Any

from tests.torture.calling import Caller, GaveUp, Reply

PAUSES = (0.3, 1.1)
"""Seconds between two acts of one person."""
HOT_SHARE = 0.6
"""Of all edits, on the few records that everybody works on."""


@dataclass
class Accepted:
    """What write-sync said yes to: modification id to who and what. Shared by all actors."""

    edits: dict[str, str] = field(default_factory=dict)
    rollbacks: int = 0
    oddities: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, modification_id: str, what: str) -> None:
        with self.lock:
            self.edits[modification_id] = what

    def odd(self, what: str) -> None:
        with self.lock:
            self.oddities.append(what)


class Person(threading.Thread):
    """Draws everything an act needs before it acts, so that answers cannot change the acts that follow."""

    def __init__(
        self, caller: Caller, *, seed: int, hot: list[str], cold: list[str], accepted: Accepted, is_lead: bool
    ) -> None:
        super().__init__(name=caller.username, daemon=True)
        self._caller, self._hot, self._cold, self._accepted = caller, hot, cold, accepted
        self._random = Random(f"{seed} {caller.username}")
        self._mine: deque[str] = deque(maxlen=30)
        self._number = 0
        self._over = threading.Event()
        acts: list[tuple[int, Callable[[Random], None]]] = [
            (50, self._edit), (14, self._edit_many), (8, self._withdraw), (10, self._resolve), (5, self._revive),
            (3, self._discontinue), (10 if is_lead else 0, self._roll_back),
        ]  # fmt: skip
        self._acts, self._weights = [act for _, act in acts], [weight for weight, _ in acts]

    def stop(self) -> None:
        self._over.set()

    def run(self) -> None:
        while not self._over.is_set():
            act = self._random.choices(self._acts, self._weights)[0]
            drawn = Random(self._random.getrandbits(64))
            pause = self._random.uniform(*PAUSES)
            try:
                act(drawn)
            except GaveUp as gave_up:
                self._accepted.odd(f"gave up: {gave_up}")
            self._over.wait(pause)

    # ------------------------------------------------------------------ acts

    def _edit(self, drawn: Random) -> None:
        pfa_id, kind, days = self._some_record(drawn), drawn.randrange(5), drawn.randrange(1, 300)
        if record := self._record(pfa_id):
            self._draft_and_commit(record, self._changes(record, kind, days), priority=drawn.choice((0, 0, 0, 5)))

    def _discontinue(self, drawn: Random) -> None:
        if record := self._record(drawn.choice(self._cold)):
            self._draft_and_commit(record, {"isDiscontinued": True})

    def _edit_many(self, drawn: Random) -> None:
        wanted = drawn.sample(self._cold, min(len(self._cold), drawn.randrange(3, 9)))
        found = [record for record in map(self._record, wanted) if record]
        items = [
            {"pfaId": record["pfaId"], "baseVersion": record["version"], "reason": "torture",
             "changes": self._changes(record, number % 5, number + 3)}
            for number, record in enumerate(found)
        ]  # fmt: skip
        if not items:
            return
        saved = self._caller.call("PUT", f"/api/pfa/{self._caller.organization}/drafts", json={"items": items})
        if saved.ok:
            ids = [item["modificationId"] for item in saved.body["items"] if "modificationId" in item]
            self._commit(ids, "one of many")

    def _withdraw(self, drawn: Random) -> None:
        if self._mine:
            self._caller.call("POST", f"/api/pems/modifications/{drawn.choice(self._mine)}/withdraw", json={})

    def _resolve(self, drawn: Random) -> None:
        resolution = drawn.choice(("use_local", "use_pems", "merge"))
        open_ones = self._caller.items("/api/pems/conflicts", status="unresolved")
        if open_ones:
            resolve(self._caller, drawn.choice(open_ones[:5]), resolution)

    def _revive(self, drawn: Random) -> None:
        word = drawn.choice(("retry", "retry", "discard"))
        reply = self._caller.call("GET", "/api/pems/dead-letters", params={"organizationId": self._caller.organization})
        groups = reply.body["items"] if reply.ok else []
        if groups:
            body = {"organizationId": self._caller.organization, "ids": drawn.choice(groups)["modificationIds"][:3]}
            body |= {"reason": "torture"} if word == "discard" else {}
            self._caller.call("POST", f"/api/pems/dead-letters/{word}", json=body)

    def _roll_back(self, drawn: Random) -> None:
        back, path = drawn.randrange(1, 4), f"/api/pfa/{self._caller.organization}/records/{drawn.choice(self._hot)}"
        seen = self._caller.call("GET", f"{path}/history")
        if not seen.ok or len(seen.body["items"]) <= back:
            return
        body = {"version": seen.body["items"][back]["version"], "reason": "torture", "preview": False}
        done = self._caller.call("POST", f"{path}/rollback", json=body)
        if done.ok and done.body.get("queuedCount"):
            with self._accepted.lock:
                self._accepted.rollbacks += done.body["queuedCount"]

    # ------------------------------------------------------------------ how

    def _some_record(self, drawn: Random) -> str:
        return drawn.choice(self._hot if drawn.random() < HOT_SHARE else self._cold)

    def _record(self, pfa_id: str) -> dict[str, Any] | None:
        reply = self._caller.call("GET", f"/api/pfa/{self._caller.organization}/records/{pfa_id}")
        usable = reply.ok and not reply.body["fields"]["isDiscontinued"] and reply.body["deletedAt"] is None
        return reply.body if usable else None

    def _changes(self, record: dict[str, Any], kind: int, days: int) -> dict[str, Any]:
        """Text that occurs once in the whole run tells whose write a value is."""
        self._number += 1
        mark = f"{self._caller.username} {self._number}"
        end = record["fields"]["forecastEnd"]
        if kind == 3 and end is not None:
            return {"forecastEnd": (date.fromisoformat(end) + timedelta(days=days)).isoformat(), "areaSilo": mark}
        if kind == 4:
            return {"model": mark, "manufacturer": mark}
        return {("model", "areaSilo", "manufacturer", "areaSilo")[kind]: mark}

    def _draft_and_commit(self, record: dict[str, Any], changes: dict[str, Any], *, priority: int = 0) -> None:
        path = f"/api/pfa/{self._caller.organization}/drafts/{record['pfaId']}"
        body = {"changes": changes, "baseVersion": record["version"], "reason": "torture"}
        saved = self._caller.call("PUT", path, json=body)
        if saved.status == 409:  # PEMS moved meanwhile: what a person would see is in the answer; start from there
            fresh = self._record(record["pfaId"])
            if fresh is None:
                return
            saved = self._caller.call("PUT", path, json=body | {"baseVersion": fresh["version"]})
        if saved.ok:
            self._commit([saved.body["modificationId"]], str(changes)[:80], priority=priority)

    def _commit(self, ids: list[str], what: str, *, priority: int = 0) -> None:
        reply = self._caller.commit(ids, priority=priority)
        if not reply.ok:
            self._accepted.odd(f"write-sync of {ids}: {reply.status} {reply.body}")
            return
        refused = {each["modificationId"] for each in reply.body["rejected"]}
        taken = [each for each in ids if each not in refused]
        if reply.body["queuedCount"] != len(taken):
            self._accepted.odd(f"write-sync of {ids} answered {reply.body}")
        for modification_id in taken:
            self._accepted.add(modification_id, f"{self._caller.username}: {what}")
            self._mine.append(modification_id)
        if refused and reply.is_repeat:
            self._accepted.odd(f"write-sync repeated with its key was refused: {reply.body}")


def resolve(caller: Caller, conflict: dict[str, Any], resolution: str) -> Reply:
    """One decision on what the list showed; refused when the conflict moved or somebody was faster."""
    body: dict[str, Any] = {"resolution": resolution, "seenPemsVersion": conflict["pemsVersion"], "comment": "torture"}
    if resolution == "merge":
        body["mergedData"] = {each["name"]: each["theirs"] for each in conflict["fields"]}
    return caller.call("POST", f"/api/pems/conflicts/{conflict['id']}/resolve", json=body)
