"""Which request is to go wrong, and how. Decided from the plan and its seed alone, whatever the order of arrival."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from .clock import stamp
from .faultplan import ITEM_KINDS, REQUEST_KINDS, Fault, Outage, Plan, Rate, ScriptLine


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that was put into effect, for the record."""

    at: float
    kind: str
    operation: str
    pfa_ids: tuple[str, ...]

    def shown(self) -> dict[str, Any]:
        return {"at": stamp(self.at), "kind": self.kind, "operation": self.operation, "pfaIds": list(self.pfa_ids[:10])}


class Faults:
    """A fault on request level is drawn once per request, one on item level once per written record.

    The nth draw for a record depends on seed, record and n only, so that concurrent clients cannot change it.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """No faults from now on, and none counted."""
        self.plan = Plan()
        self._drawn: Counter[tuple[str, str, str]] = Counter()
        self._injected: Counter[str] = Counter()
        self._recent: deque[Injected] = deque(maxlen=1000)

    def follow(self, plan: Plan) -> None:
        """Puts a plan in force; its draws start from the first."""
        self.plan = plan
        self._drawn.clear()

    def outage(self, operation: str, now: float) -> Outage | None:
        outage = self.plan.outage
        if outage is None or not outage.from_at <= now < outage.to_at:
            return None
        self._note(f"outage_{outage.mode}", operation, (), now)
        return outage

    def honours_keys(self) -> bool:
        return "idempotency_ignored" not in self.plan.switches

    def for_request(self, operation: str, pfa_ids: tuple[str, ...], now: float) -> Fault | None:
        if operation == "BATCH" and "batch_absent" in self.plan.switches:
            fault: Fault | None = Fault("batch_absent")
        else:
            subject = pfa_ids[0] if len(pfa_ids) == 1 and operation != "BATCH" else ""
            fault = self._scripted(REQUEST_KINDS, operation, pfa_ids) or self._drawn_by_rate(
                REQUEST_KINDS, operation, subject
            )
        if fault is not None:
            self._note(fault.kind, operation, pfa_ids, now)
        return fault

    def for_item(self, operation: str, pfa_id: str, now: float) -> Fault | None:
        fault = self._scripted(ITEM_KINDS, operation, (pfa_id,)) or self._drawn_by_rate(ITEM_KINDS, operation, pfa_id)
        if fault is not None:
            self._note(fault.kind, operation, (pfa_id,), now)
        return fault

    def report(self, now: float) -> dict[str, Any]:
        """The plan as far as it is still to come, and what was injected so far."""
        recent = [injected.shown() for injected in self._recent]
        return {**self.plan.shown(now), "injected": dict(self._injected), "recent": recent}

    def injected(self) -> dict[str, int]:
        return dict(self._injected)

    def _scripted(self, kinds: dict[str, frozenset[str]], operation: str, pfa_ids: tuple[str, ...]) -> Fault | None:
        for line in self.plan.script:
            if operation in kinds.get(line.fault.kind, ()) and line.matches(operation, pfa_ids):
                return self._used(line)
        return None

    def _used(self, line: ScriptLine) -> Fault:
        if line.times is not None:
            line.times -= 1
            if line.times == 0:
                self.plan.script.remove(line)
        return line.fault

    def _drawn_by_rate(self, kinds: dict[str, frozenset[str]], operation: str, subject: str) -> Fault | None:
        rates = [rate for rate in self.plan.rates if rate.fault.kind in kinds]
        if not rates or not self.plan.draws_for(operation):
            return None
        stream = ("item" if kinds is ITEM_KINDS else operation, subject)
        self._drawn[(*stream, "")] += 1
        draw = self._uniform(*stream, self._drawn[(*stream, "")])
        rate = _hit(rates, draw)
        if rate is None or operation not in kinds[rate.fault.kind]:
            return None
        return rate.fault.with_chance(self._uniform(*stream, -self._drawn[(*stream, "")]))

    def _uniform(self, level: str, subject: str, nth: int) -> float:
        digest = blake2b(f"{self.plan.seed}|{level}|{subject}|{nth}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    def _note(self, kind: str, operation: str, pfa_ids: tuple[str, ...], now: float) -> None:
        self._injected[kind] += 1
        self._recent.append(Injected(now, kind, operation, pfa_ids))


def _hit(rates: Iterable[Rate], draw: float) -> Rate | None:
    reached = 0.0
    for rate in rates:
        reached += rate.probability
        if draw < reached:
            return rate
    return None
