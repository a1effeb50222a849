"""The one owner of retries: how long to wait, and when to stop. Pure; the row records what it decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class RetryPolicy:
    """`delay_seconds` before the first resend, doubled for each further one: 5, 10, 20 (C8)."""

    max_retries: int = 3
    delay_seconds: float = 5.0

    def exhausted(self, attempts: int) -> bool:
        """Whether `attempts` burnt tries (the first one included) were the last."""
        return attempts > self.max_retries

    def next_at(self, *, attempts: int, now: datetime, retry_after_seconds: float | None = None) -> datetime:
        """When to try again after `attempts` burnt tries. A `Retry-After` is honoured where it is longer."""
        delay = self.delay_seconds * 2 ** max(0, min(attempts, 16) - 1)
        return now + timedelta(seconds=max(delay, retry_after_seconds or 0.0))
