"""The plan of `POST /sandbox/faults`: its kinds, its JSON, and what each part means."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_WRITES = frozenset({"PUT", "DELETE", "BATCH"})
_BATCH = frozenset({"BATCH"})
_ANY = _WRITES | {"GET", "LIST", "HEALTH"}

STATUS_KINDS = {
    f"status_{name}": _ANY
    for name in ("400", "401", "403", "404_html", "409", "422", "423", "429", "500", "502", "503", "504")
}
REQUEST_KINDS = {
    **STATUS_KINDS,
    "lost_reply": _ANY,
    "reset_before": _ANY,
    "late_apply": _WRITES,
    "slow": _ANY,
    "truncated": _ANY,
    "garbage": _ANY,
    "batch_partial": _BATCH,
    "batch_absent": _BATCH,
}
"""Kind to the operations it can happen to: the whole request goes wrong."""
ITEM_KINDS = {
    **{f"item_{status}": _WRITES for status in (400, 404, 409, 422, 423, 503)},
    "version_jump": _WRITES,
    "adjust": _WRITES,
    "no_record": _WRITES,
    "batch_missing_result": _BATCH,
}
"""Kind to the operations it can happen to: one written record goes wrong, alone or as an item of a batch."""
SWITCHES = ("idempotency_ignored", "batch_absent")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, with its details."""

    kind: str
    seconds: float = 1.0
    """How long `slow` waits before it answers, `late_apply` before it applies."""
    retry_after: int | str | None = 1
    """Of 423, 429 and 503: seconds, any text, or None for no header."""
    as_date: bool = False
    """Send `retry_after` seconds as a date."""
    applied: bool | None = None
    """Of 500, 502 and 504: whether the request is executed first. None: by chance for a rate, not for a script."""
    n: int = 1
    """More versions of `version_jump`; items that `batch_partial` applies."""

    def with_chance(self, draw: float) -> "Fault":
        return replace(self, applied=draw < 0.5) if self.applied is None else self

    def shown(self) -> dict[str, Any]:
        names = {name: json_name for json_name, name in _DETAILS.items()}
        plain = Fault(self.kind)
        changed = {names[name]: getattr(self, name) for name in names if getattr(self, name) != getattr(plain, name)}
        return {"kind": self.kind, **changed}


@dataclass(frozen=True, slots=True)
class Rate:
    probability: float
    fault: Fault


@dataclass(slots=True)
class ScriptLine:
    """Strikes the next `times` requests that match; None is for ever."""

    fault: Fault
    pfa_id: str | None
    operation: str
    times: int | None

    def matches(self, operation: str, pfa_ids: tuple[str, ...]) -> bool:
        return self.operation in ("ANY", operation) and (self.pfa_id is None or self.pfa_id in pfa_ids)

    def shown(self) -> dict[str, Any]:
        return {**self.fault.shown(), "pfaId": self.pfa_id, "operation": self.operation, "times": self.times}


@dataclass(frozen=True, slots=True)
class Outage:
    """Between the two times (seconds since the epoch) every API call is cut (`cut`) or answered 503 (`503`)."""

    from_at: float
    to_at: float
    mode: str

    def shown(self, now: float) -> dict[str, Any]:
        return {"from": round(self.from_at - now, 3), "to": round(self.to_at - now, 3), "mode": self.mode}


@dataclass(frozen=True, slots=True)
class Plan:
    rates: tuple[Rate, ...] = ()
    script: list[ScriptLine] = field(default_factory=list)
    switches: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()
    """Operations the rates apply to; empty for all."""
    outage: Outage | None = None
    seed: int = 1

    def draws_for(self, operation: str) -> bool:
        return not self.operations or operation in self.operations

    def shown(self, now: float) -> dict[str, Any]:
        return {
            "rates": {r.fault.kind: {"probability": r.probability, **_without_kind(r.fault)} for r in self.rates},
            "script": [line.shown() for line in self.script],
            "switches": sorted(self.switches),
            "operations": sorted(self.operations),
            "outage": self.outage.shown(now) if self.outage and now < self.outage.to_at else None,
            "seed": self.seed,
        }


def changed_plan(plan: Plan, wanted: Any, now: float) -> Plan:
    """The plan with the parts named in `wanted` replaced. Raises ValueError with a sentence for the sender."""
    if not isinstance(wanted, dict):
        raise ValueError("the body must be a JSON object")
    if unknown := set(wanted) - {"rates", "script", "switches", "operations", "outage", "seed"}:
        raise ValueError(f"unknown part of a fault plan: {', '.join(sorted(unknown))}")
    parts: dict[str, Any] = {}
    if "rates" in wanted:
        parts["rates"] = _rates(wanted["rates"])
        parts["switches"] = _switched(plan.switches, wanted["rates"])
    if "switches" in wanted:
        parts["switches"] = _names(wanted["switches"], SWITCHES, "switch")
    if "script" in wanted:
        parts["script"] = [_script_line(line) for line in _list(wanted["script"], "script")]
    if "operations" in wanted:
        parts["operations"] = _names(wanted["operations"], _ANY, "operation")
    if "outage" in wanted:
        parts["outage"] = _outage(wanted["outage"], now)
    if "seed" in wanted:
        parts["seed"] = _number(wanted["seed"], "seed", whole=True)
    return replace(plan, **parts)


_DETAILS = {"seconds": "seconds", "retryAfter": "retry_after", "asDate": "as_date", "applied": "applied", "n": "n"}


def _rates(wanted: Any) -> tuple[Rate, ...]:
    if not isinstance(wanted, dict):
        raise ValueError("rates must be an object of kind and probability")
    rates = tuple(_rate(kind, value) for kind, value in wanted.items() if kind not in SWITCHES)
    for kinds in (REQUEST_KINDS, ITEM_KINDS):
        if sum(rate.probability for rate in rates if rate.fault.kind in kinds) > 1 + 1e-9:
            raise ValueError("the probabilities add up to more than 1")
    return rates


def _switched(switches: frozenset[str], rates: Mapping[str, Any]) -> frozenset[str]:
    """A switch may also be named among the rates: 0 is off, anything else on."""
    named = {kind for kind in SWITCHES if kind in rates}
    return (switches - named) | {kind for kind in named if rates[kind]}


def _rate(kind: str, value: Any) -> Rate:
    details = value if isinstance(value, dict) else {"probability": value}
    probability = _number(details.get("probability"), f"the probability of {kind}")
    if not 0 <= probability <= 1:
        raise ValueError(f"the probability of {kind} must be between 0 and 1")
    return Rate(probability, _fault({**details, "kind": kind}, {"kind", "probability"}))


def _script_line(line: Any) -> ScriptLine:
    if not isinstance(line, dict):
        raise ValueError("a line of the script must be an object")
    fault = _fault(line, {"kind", "pfaId", "operation", "times"})
    operation, times = line.get("operation", "ANY"), line.get("times", 1)
    if operation not in (*_ANY, "ANY"):
        raise ValueError(f"unknown operation {operation!r}")
    if times is not None and _number(times, "times", whole=True) < 1:
        raise ValueError("times must be at least 1, or null for ever")
    return ScriptLine(fault, line.get("pfaId"), operation, times)


def _fault(details: Mapping[str, Any], others: set[str]) -> Fault:
    kind = details.get("kind")
    if kind not in (*REQUEST_KINDS, *ITEM_KINDS):
        raise ValueError(f"unknown fault kind {kind!r}")
    if unknown := set(details) - others - set(_DETAILS):
        raise ValueError(f"unknown detail of {kind}: {', '.join(sorted(unknown))}")
    fault = Fault(kind, **{_DETAILS[name]: value for name, value in details.items() if name in _DETAILS})
    _number(fault.seconds, "seconds")
    _number(fault.n, "n", whole=True)
    if fault.as_date or not isinstance(fault.retry_after, str | None):
        _number(fault.retry_after, "retryAfter")
    return fault


def _outage(wanted: Any, now: float) -> Outage | None:
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or wanted.get("mode", "cut") not in ("cut", "503"):
        raise ValueError('outage must be {"from": seconds, "to": seconds, "mode": "cut" or "503"}')
    start, end = _number(wanted.get("from", 0), "from"), _number(wanted.get("to"), "to")
    return Outage(now + start, now + end, wanted.get("mode", "cut"))


def _names(wanted: Any, allowed: Any, noun: str) -> frozenset[str]:
    for name in _list(wanted, noun):
        if name not in tuple(allowed):
            raise ValueError(f"unknown {noun} {name!r}")
    return frozenset(wanted)


def _list(wanted: Any, noun: str) -> list[Any]:
    if not isinstance(wanted, list):
        raise ValueError(f"{noun} must be a list")
    return wanted


def _number(value: Any, noun: str, *, whole: bool = False) -> Any:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ValueError(f"{noun} must be a {'whole number' if whole else 'number'}")
    return value


def _without_kind(fault: Fault) -> dict[str, Any]:
    return {name: value for name, value in fault.shown().items() if name != "kind"}
