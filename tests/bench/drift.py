"""Drift of one record: the three-way comparison alone, over edits as planners make them. Needs no stack."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import cycle, islice

from pems_sync.drift import base_for, compare
from pems_sync.fields import FIELDS, Kind, Values
from pems_sync.policies import Policies, Rule, settle
from tests.bench.measures import Figure

BAR_MICROSECONDS = 50
_ROUNDS, _AT_ONCE = 20, 2_000

_EMPTY: Values = {name: False if field.kind is Kind.FLAG else None for name, field in FIELDS.items()}
_STORED: Values = {
    **_EMPTY,
    "description": "Excavator 30T", "category": "Earthmoving", "class": "Excavator", "source": "Rental", "dor": "PROJECT",
    "areaSilo": "North", "manufacturer": "CAT", "model": "330", "monthlyRate": "5500.00",
    "originalStart": "2026-01-01", "originalEnd": "2026-06-30", "forecastStart": "2026-01-15", "forecastEnd": "2026-06-30",
    "hasPlan": True, "contract": "C-100",
}  # fmt: skip
_WANTED: tuple[Values, ...] = (
    {"forecastEnd": "2026-07-31"},
    {"forecastStart": "2026-02-01", "forecastEnd": "2026-07-31"},
    {"monthlyRate": "5750.00"},
    {"model": "336", "manufacturer": "CAT", "areaSilo": "South", "monthlyRate": "6100.00", "forecastEnd": "2026-08-31"},
)
_MOVED: tuple[Values, ...] = (
    {"actualStart": "2026-01-16"},
    {"forecastEnd": "2026-07-15"},
    {"monthlyRate": "5750.00"},
    {"areaSilo": "East", "hasActuals": True, "contract": "C-101"},
)


def drift() -> list[Figure]:
    """Sixteen pairs of an edit and a foreign change: some disjoint, some converged, some clashing; validation included."""
    cases = [(base_for(wanted, _STORED), wanted, {**_STORED, **moved}) for wanted in _WANTED for moved in _MOVED]
    policies = Policies({"forecastStart": Rule.MAX, "forecastEnd": Rule.MAX, "monthlyRate": Rule.PEMS_WINS})

    def comparing() -> None:
        for base, wanted, theirs in islice(cycle(cases), _AT_ONCE):
            compare(base=base, changes=wanted, theirs=theirs, delete=False)

    def settling() -> None:
        for base, wanted, theirs in islice(cycle(cases), _AT_ONCE):
            settle(policies, base=base, changes=wanted, theirs=theirs, clashing=wanted, ours_at=None, theirs_at=None)

    each, ruled = _microseconds(comparing), _microseconds(settling)
    return [
        Figure("drift of one record", each, "µs", f"< {BAR_MICROSECONDS}", each < BAR_MICROSECONDS, "K1"),
        Figure("a policy on one clash", ruled, "µs", "", True, "K1"),
    ]


def _microseconds(work: Callable[[], None]) -> float:
    """The median over rounds, per comparison."""
    taken = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) / _AT_ONCE * 1e6)
    return round(statistics.median(taken), 1)
