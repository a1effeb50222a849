"""What both sides counted, compared: one figure per rule, one finding per broken one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.torture.ledger import OPEN, Edit

BAD = (
    "lost", "appliedTwice", "doubleInFlight", "limitViolations", "chainBroken", "differences", "socketGaps",
    "unexpectedErrors",
)  # fmt: skip
CLOCKS_APART = timedelta(seconds=0.05)


@dataclass
class Findings:
    """Figure to sentences; `about` names the modifications whose stories are worth telling."""

    sentences: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in BAD})
    about: set[str] = field(default_factory=set)

    def add(self, figure: str, sentence: str, modification_id: str | None = None) -> None:
        self.sentences[figure].append(sentence)
        if modification_id:
            self.about.add(modification_id)

    @property
    def good(self) -> bool:
        return not any(self.sentences.values())

    def figures(self) -> dict[str, int]:
        return {name: len(self.sentences[name]) for name in BAD}


Audit = Sequence[dict[str, Any]]
Event = tuple[int, str, str | None]


def judge_edits(found: Findings, accepted: Mapping[str, str], edits: Mapping[str, Edit], audit: Audit) -> None:
    """I1 and I2: nothing accepted disappeared, and each edit was applied as often as its end says."""
    for modification_id, what in accepted.items():
        if modification_id not in edits:
            found.add("lost", f"{modification_id} ({what}) was accepted and is not there")
    written = [entry for entry in audit if entry["source"] == "api"]
    by_key: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in written:
        by_key[entry["idempotencyKey"]].append(entry)
    known = {key for edit in edits.values() for _, key, _ in edit.attempts}
    for entry in written:
        if entry["idempotencyKey"] not in known:
            found.add("appliedTwice", f"PEMS applied a write that no attempt stands for: {entry}")
    by_record: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in audit:
        by_record[entry["pfaId"]].append(entry)
    for edit in edits.values():
        _judge(found, edit, by_key, by_record[edit.pfa_id])


def _judge(found: Findings, edit: Edit, by_key: Mapping[str, Audit], of_record: Audit) -> None:
    if edit.state in OPEN or edit.state == "conflicted":
        found.add("lost", f"{_named(edit)} is still {edit.state} after the quiet-down: {edit.error}", edit.id)
    if edit.state == "dead" and not edit.dead_reason:
        found.add("lost", f"{_named(edit)} is dead without a reason", edit.id)
    applied = _applied(edit, by_key)
    for segment, entries in applied.items():
        if len(entries) > 1:
            found.add(
                "appliedTwice", f"{_named(edit)} was applied {len(entries)} times after decision {segment}", edit.id
            )
    every = [entry for entries in applied.values() for entry in entries]
    if edit.state == "confirmed":
        _judge_confirmed(found, edit, every, of_record)
    if edit.state == "superseded" and every:
        found.add("appliedTwice", f"{_named(edit)} was folded into another, and was applied", edit.id)
    if edit.state == "withdrawn" and edit.finished_at:
        for entry in every:
            if datetime.fromisoformat(entry["at"]) > edit.finished_at + CLOCKS_APART:
                found.add("appliedTwice", f"{_named(edit)} was applied after it was withdrawn: {entry}", edit.id)


def _applied(edit: Edit, by_key: Mapping[str, Audit]) -> dict[int, list[dict[str, Any]]]:
    """Writes of this edit that PEMS applied, by how many times a person had decided when they were sent."""
    applied: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    seen: set[str] = set()
    for started_at, key, _ in edit.attempts:
        if key not in seen:
            seen.add(key)
            applied[edit.segment(started_at)] += by_key.get(key, ())
    return applied


def _judge_confirmed(found: Findings, edit: Edit, applied: list[dict[str, Any]], of_record: Audit) -> None:
    if applied or edit.how == "converged":
        return
    # A read-back tells what PEMS holds, not who wrote it: the same change by somebody else counts as landed.
    made = {name for entry in of_record for name, value in entry["changes"].items() if edit.changes.get(name) == value}
    if not (edit.how == "proof" and made >= set(edit.changes)):
        found.add("lost", f"{_named(edit)} is confirmed by {edit.how or 'nothing'}, and PEMS never applied it", edit.id)


def _named(edit: Edit) -> str:
    return f"{edit.id} ({edit.organization} {edit.pfa_id}, {edit.author}, {edit.changes})"


def judge_sockets(found: Findings, told: Sequence[Event], kept: Sequence[Event], *, after: int, who: str) -> None:
    """I10: what a client has that resumes is what the journal says, from the event after `after` to the last."""
    wanted = {event for event in told if event[0] > after}
    if extra := set(kept) - wanted:
        found.add("socketGaps", f"{who}: events that the journal does not know: {sorted(extra)[:5]}")
    if missing := wanted - set(kept):
        found.add("socketGaps", f"{who}: {len(missing)} events never came: {sorted(missing)[:5]}")


def judge_inside(found: Findings, inside: Mapping[str, Any]) -> None:
    """What the system says of itself: its journal and lanes, `manage.py verify` with every record compared."""
    for sentence in inside["broken"]:
        found.add("chainBroken", sentence)
    for check in inside["verify"]["checks"]:
        if not check["ok"]:
            figure = "differences" if check["id"] in ("I7", "I13") else "lost" if check["id"] == "I2" else "chainBroken"
            for sentence in check["found"] or ["no detail"]:
                found.add(figure, f"verify {check['id']} {check['title']}: {sentence}")


def ends(edits: Mapping[str, Edit]) -> dict[str, int]:
    """The figures that tell how lively the run was."""
    states = Counter(edit.state for edit in edits.values())
    return {"edits": len(edits), "confirmed": states["confirmed"], "deadLetters": states["dead"]}
