"""PostgreSQL and Redis for whoever needs them: those that DATABASE_URL and REDIS_URL name, else embedded ones."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from redis import Redis as Client
from redis.exceptions import RedisError

from deploy.local.postgres import Postgres
from deploy.local.program import StackError
from deploy.local.redis import Redis
from deploy.local.state import StateDirectory


@dataclass(frozen=True)
class Services:
    """Where the two are. `postgres` and `redis` are None where an address was given: then they are not ours to stop."""

    database_url: str
    redis_url: str
    postgres: Postgres | None
    redis: Redis | None


@contextmanager
def backing_services(
    var_dir: Path, *, throwaway: bool = False, given: Mapping[str, str] = os.environ
) -> Iterator[Services]:
    """Both services, answering. Leave the block after everything that uses them has ended.

    Claims `var_dir` for this process; raises StackError. The calling thread must live as long as the block (tether.py).
    """
    with ExitStack() as ending:
        state = StateDirectory(var_dir)
        ending.enter_context(state.claimed())
        database_url, postgres = given.get("DATABASE_URL", ""), None
        redis_url, redis = given.get("REDIS_URL", ""), None
        if database_url:
            demand_postgres(database_url)
        if redis_url:
            demand_redis(redis_url)
        if not database_url:
            postgres = Postgres(state, throwaway=throwaway)
            ending.callback(postgres.stop)
            postgres.start()
        if not redis_url:
            redis = Redis(state)
            ending.callback(redis.stop)
            redis.start()
        yield Services(
            database_url=postgres.url if postgres else database_url,
            redis_url=redis.url if redis else redis_url,
            postgres=postgres,
            redis=redis,
        )


def demand_postgres(url: str) -> None:
    """StackError, with the address and without the password, when nothing usable answers there."""
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.Error as error:
        raise StackError(
            f"DATABASE_URL names {address(url)}, and PostgreSQL does not answer there ({reason(error, url)}): "
            "start it, correct DATABASE_URL, or unset it to use the embedded PostgreSQL."
        ) from None


def demand_redis(url: str) -> None:
    """StackError, with the address and without the password, when nothing usable answers there."""
    try:
        with Client.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except (RedisError, ValueError) as error:
        raise StackError(
            f"REDIS_URL names {address(url)}, and Redis does not answer there ({reason(error, url)}): "
            "start it, correct REDIS_URL, or unset it to use the embedded Redis."
        ) from None


def address(url: str) -> str:
    """The part of a URL that may be shown: no user, no password, no options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def reason(error: Exception, url: str) -> str:
    """The first line of the error; drivers quote a URL that they cannot read, password included."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return line.replace(url, address(url))
