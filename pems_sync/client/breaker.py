"""The circuit breaker of one connection, as decisions without rows and clocks (D10).

    closed ──a rate of transient failures──► open ──after a pause──► half-open: one canary
      ▲                                       ▲                          │
      └──────── its canary was answered ──────┼──────────────────────────┤
                                              └── it was not: longer ────┘

A request was answered when PEMS said something that can be understood, whatever it was. Refused credentials and a wrong
address are no matter of the breaker: they pause the connection (D12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pems_sync.fields import ACTUALS, FIELDS, MONEY_FIELDS

WINDOW_SECONDS = 10
LEAST_REQUESTS = 5
"""Fewer say nothing about a rate: a lone lost reply never opens it."""
FAILED_IN_A_ROW, UNREACHED_IN_A_ROW = 5, 3
"""So that the good answers of a busy time before do not outvote an outage for seconds."""
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
JITTER = 0.1
SLOW_START_SECONDS = 8.0
"""From the answer of a canary to the full pace (Pace.slow_start)."""


class Seen(StrEnum):
    """What came of one request."""

    ANSWERED = "answered"
    FAILED = "failed"
    """503 of the request; sent, and then nothing that can be understood."""
    UNREACHED = "unreached"
    """Nothing was sent: no name, no connection, no TLS."""


@dataclass(frozen=True)
class Counts:
    """Requests of the last `WINDOW_SECONDS`; those in a row since the last answer, however long ago."""

    answered: int = 0
    failed: int = 0
    failed_in_a_row: int = 0
    """Those that did not reach PEMS among them."""
    unreached_in_a_row: int = 0


def opens(counts: Counts) -> bool:
    """At least 5 requests in 10 s of which at least half failed, or 5 failures in a row, or 3 that did not reach PEMS."""
    requests = counts.answered + counts.failed
    rate = requests >= LEAST_REQUESTS and 2 * counts.failed >= requests
    in_a_row = counts.failed_in_a_row >= FAILED_IN_A_ROW or counts.unreached_in_a_row >= UNREACHED_IN_A_ROW
    return rate or in_a_row


def pause_seconds(lost: int, *, chance: float) -> float:
    """Until the next canary when `lost` of them were: 1, 2, 4, 8, then 15 s, and up to a tenth less by `chance`
    (0 to 1), so that connections which broke together do not try together."""
    return PAUSES_SECONDS[min(lost, len(PAUSES_SECONDS) - 1)] * (1 - JITTER * chance)


def burns(*, started_at: datetime | None, is_closed: bool, since: datetime | None) -> bool:
    """Whether a try that did not land counts. Not when the breaker is open, or has changed since the try started: it was
    the connection's trouble, and an outage of any length uses up no tries."""
    return started_at is not None and is_closed and (since is None or started_at > since)


def risk(
    *, exposed: bool, is_delete: bool, changes: Mapping[str, Any], queued_at: datetime
) -> tuple[bool, bool, bool, int, datetime]:
    """The canary is the edit with the least: nothing of it may have landed yet, no deletion, neither money nor actuals,
    few fields, then the longest waiting."""
    touchy = any(name in MONEY_FIELDS or FIELDS[name].permission == ACTUALS for name in changes)
    return (exposed, is_delete, touchy, len(changes), queued_at)
