"""This process's connection to Redis, made when first needed."""

from functools import cache

import redis
from django.conf import settings


@cache
def redis_store() -> redis.Redis:
    """Short timeouts: nothing here may make a planner wait for a Redis that is gone."""
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=2, health_check_interval=10
    )
