"""This process's connection to Redis, made when first needed."""

from functools import cache

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry


@cache
def redis_store() -> redis.Redis:
    """Short timeouts and one retry, for a connection that a restart of Redis broke: nothing here may make a planner wait
    for a Redis that is gone. (The default is three retries with up to ten seconds between them.)"""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=1,
        socket_timeout=2,
        health_check_interval=10,
        retry=Retry(NoBackoff(), 1),
    )
