"""Every setting an operator may give, read once from the environment.

A bad value stops the start with a sentence that names it. `python -m config.configuration` prints README.md's table.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured


def _switch(text: str) -> bool:
    words = {"on": True, "true": True, "1": True, "yes": True, "off": False, "false": False, "0": False, "no": False}
    return words[text.strip().lower()]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1_000_000:
        raise ValueError(text)
    return number


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 1_000_000:
        raise ValueError(text)
    return number


def _at_least_one(text: str) -> int:
    number = _count(text)
    if number < 1:
        raise ValueError(text)
    return number


def _hour(text: str) -> int:
    hour = _count(text)
    if hour > 23:
        raise ValueError(text)
    return hour


def _seconds(text: str) -> list[float]:
    delays = [_positive(word) for word in _words(text)]
    if not delays:
        raise ValueError(text)
    return delays


def _one_of(*words: str) -> Callable[[str], str]:
    return lambda text: {word: word for word in words}[text]


def _level(text: str) -> str:
    return {name: name for name in logging.getLevelNamesMapping()}[text]


def _address(*schemes: str) -> Callable[[str], str]:
    """A URL of one of the schemes with a usable port, or nothing."""

    def checked(text: str) -> str:
        parts = urlsplit(text)
        if text and (parts.scheme not in schemes or not parts.hostname or parts.port == 0):
            raise ValueError(text)
        return text

    return checked


def _networks(text: str) -> list[str]:
    return [str(ip_network(word)) for word in _words(text)]


@dataclass(frozen=True)
class Setting:
    """One environment variable: how it is read, what it is without, what it means. A secret one is never shown."""

    name: str
    cast: Callable[[str], Any]
    default: str
    meaning: str
    secret: bool = False


SETTINGS = (
    Setting(
        "DATABASE_URL",
        _address("postgres", "postgresql"),
        "",
        "PostgreSQL, `postgres://user:password@host:port/name`; empty: the embedded one",
        secret=True,
    ),
    Setting(
        "REDIS_URL",
        _address("redis", "rediss"),
        "",
        "Redis, `redis://host:port/0`; empty: the embedded one",
        secret=True,
    ),
    Setting("VAR_DIR", str, "var", "folder for all local state"),
    Setting("SECRET_KEY", str, "", "Django's signing key; required in production", secret=True),
    Setting("ALLOWED_HOSTS", _words, "", "host names served in production, comma separated"),
    Setting("PEMS_USER", str, "", "user of the environment secrets backend", secret=True),
    Setting("PEMS_PASSWORD", str, "", "password of the environment secrets backend", secret=True),
    Setting("PEMS_API_KEY", str, "", "API key of the environment secrets backend, instead of user and password", True),
    Setting("PEMS_WEBHOOK_SECRET", str, "", "webhook secret of the environment secrets backend", secret=True),
    Setting(
        "SECRETS_BACKEND", _one_of("environment", "aws"), "environment", "`environment` or `aws` (Secrets Manager)"
    ),
    Setting("SECRETS_CACHE_SECONDS", _count, "300", "how long a fetched secret is kept"),
    Setting("PEMS_API_RATE_LIMIT", _positive, "10", "requests per second of a new connection, reads included"),
    Setting("PEMS_BATCH", _switch, "on", "`off`: a new connection sends single writes only"),
    Setting("PEMS_REQUEST_TIMEOUT", _positive, "20", "seconds until a request to PEMS is given up in total"),
    Setting("API_USER_RATE_LIMIT", _at_least_one, "10", "API requests per second and user, sliding window"),
    Setting("LOGIN_FAILURE_LIMIT", _at_least_one, "10", "failed sign-ins per minute from one address for one user"),
    Setting("ENABLE_WRITE_SYNC", _switch, "on", "`off`: edits are accepted and queued, nothing is sent to PEMS"),
    Setting("WRITE_SYNC_BATCH_SIZE", _at_least_one, "100", "most edits in one batch request (PEMS takes 100)"),
    Setting("WRITE_SYNC_MAX_RETRIES", _count, "3", "resends after the first try before an edit is a dead letter"),
    Setting("WRITE_SYNC_RETRY_DELAY", _positive, "5", "seconds before the first resend; doubled for each further one"),
    Setting("CLAIM_LEASE_SECONDS", _positive, "20", "how long a claimed edit may wait for its request to start"),
    Setting(
        "WORKER_WATCHDOG_SECONDS",
        _count,
        "30",
        "a worker that hears nothing for so long while messages wait and it has room ends itself; `0`: never",
    ),
    Setting(
        "PROOF_DELAYS", _seconds, "2,10,60", "seconds until PEMS is read back after an unknown outcome, comma separated"
    ),
    Setting(
        "PULL_INTERVAL_SECONDS", _positive, "60", "seconds between two pulls of an organization's changes from PEMS"
    ),
    Setting(
        "PULL_OVERLAP_SECONDS", _count, "120", "how far a pull looks back behind the end of the one before, in seconds"
    ),
    Setting("SWEEP_HOUR_UTC", _hour, "2", "hour of the nightly look at every record of PEMS, 0 to 23, UTC"),
    Setting("DATABASE_POOL_SIZE", _at_least_one, "16", "most PostgreSQL connections of one web process"),
    Setting("METRICS_NETWORKS", _networks, "127.0.0.0/8,::1/128", "networks that may read `/metrics`, comma separated"),
    Setting("LOG_LEVEL", _level, "INFO", "level of the JSON log: DEBUG, INFO, WARNING, ERROR"),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}


def read(name: str) -> Any:
    """The value of a setting. Raises ImproperlyConfigured with a sentence an operator can act on."""
    setting = _BY_NAME[name]
    text = os.environ.get(name) or setting.default  # as it stands: a password may begin with a dollar sign
    try:
        return setting.cast(text)
    except (KeyError, ValueError) as error:
        shown = "the given value" if setting.secret else repr(text)
        raise ImproperlyConfigured(f"{name}: {shown} cannot be used. It means: {setting.meaning}.") from error


def table() -> str:
    """The settings as a table in Markdown, for README.md."""
    rows = [f"| `{each.name}` | {f'`{each.default}`' if each.default else '–'} | {each.meaning} |" for each in SETTINGS]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
