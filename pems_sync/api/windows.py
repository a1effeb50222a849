"""Sliding windows in Redis, shared by all web processes. All of them fail open: without Redis nobody is locked out of
their work, and the log says so (S11). The limit to PEMS is another one and fails closed (client/pace.py)."""

from __future__ import annotations

import math
import time
from functools import cache

import structlog
from django.conf import settings
from limits import RateLimitItem
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

log = structlog.get_logger(__name__)


@cache
def _limiter() -> MovingWindowRateLimiter:
    storage = RedisStorage(
        settings.REDIS_URL, key_prefix="pems-sync:limit", socket_connect_timeout=0.25, socket_timeout=0.25,
        retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]  # passed on to redis-py
    )  # fmt: skip
    return MovingWindowRateLimiter(storage)


def take(limit: RateLimitItem, *key: str) -> bool:
    """Count one. False when the window is full; then nothing was counted."""
    try:
        return bool(_limiter().hit(limit, *key))
    except RedisError as error:
        _warn(error)
        return True


def is_full(limit: RateLimitItem, *key: str) -> bool:
    try:
        return not _limiter().test(limit, *key)
    except RedisError as error:
        _warn(error)
        return False


def room(limit: RateLimitItem, *key: str) -> tuple[int, int]:
    """How many more fit in now, and the whole seconds, at least 1, until the oldest one leaves the window."""
    try:
        reset_at, remaining = _limiter().get_window_stats(limit, *key)
    except RedisError as error:
        _warn(error)
        return limit.amount, 1
    return max(0, remaining), max(1, math.ceil(reset_at - time.time()))


def _warn(error: Exception) -> None:
    log.warning("rate_limit_unavailable", error=type(error).__name__)
