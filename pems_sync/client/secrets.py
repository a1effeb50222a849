"""Credentials of a connection, by name, from where secrets are kept. Never logged, never in a repr."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

import requests
from django.conf import settings
from requests.auth import HTTPBasicAuth


class SecretsUnavailableError(Exception):
    """The secret of this connection cannot be fetched."""


@dataclass(frozen=True)
class Credentials:
    """Either user and password or an API key; the webhook secret where there is one."""

    user: str = ""
    password: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    webhook_secret: str = field(default="", repr=False)

    def apply(self, session: requests.Session) -> None:
        if self.api_key:
            session.headers["X-API-Key"] = self.api_key
        else:
            session.auth = HTTPBasicAuth(self.user.encode(), self.password.encode())


class SecretsProvider(Protocol):
    def fetch(self, name: str) -> Credentials:
        """Raises SecretsUnavailableError."""
        ...


class EnvironmentSecrets:
    """Development: PEMS_USER, PEMS_PASSWORD, PEMS_API_KEY and PEMS_WEBHOOK_SECRET serve every connection."""

    def fetch(self, name: str) -> Credentials:
        read = os.environ.get
        credentials = Credentials(
            read("PEMS_USER", ""), read("PEMS_PASSWORD", ""), read("PEMS_API_KEY", ""), read("PEMS_WEBHOOK_SECRET", "")
        )
        if not (credentials.user or credentials.api_key):
            raise SecretsUnavailableError(
                f"no credentials for {name}: set PEMS_USER and PEMS_PASSWORD, or PEMS_API_KEY"
            )
        return credentials


class AwsSecrets:
    """AWS Secrets Manager: a JSON object with `user`, `password`, `apiKey`, `webhookSecret` under the secret's name."""

    def fetch(self, name: str) -> Credentials:
        import boto3  # takes 0.3 s to import; only where it is used
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            text = boto3.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]
            said = dict(json.loads(text))
        except (BotoCoreError, ClientError, KeyError, ValueError, TypeError) as error:
            raise SecretsUnavailableError(
                f"{name} cannot be read from Secrets Manager ({type(error).__name__})"
            ) from None
        credentials = Credentials(*(str(said.get(key) or "") for key in _KEYS))
        if not (credentials.user or credentials.api_key):
            raise SecretsUnavailableError(f"{name} has neither `user` nor `apiKey`")
        return credentials


_KEYS = ("user", "password", "apiKey", "webhookSecret")


class CachedSecrets:
    """Keeps what was fetched for `seconds` (5 minutes, C16). When a refresh fails, the last known secret serves on."""

    def __init__(self, provider: SecretsProvider, *, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self._provider = provider
        self._seconds = seconds
        self._clock = clock
        self._kept: dict[str, tuple[float, Credentials]] = {}

    def fetch(self, name: str) -> Credentials:
        kept = self._kept.get(name)
        if kept and self._clock() - kept[0] < self._seconds:
            return kept[1]
        try:
            credentials = self._provider.fetch(name)
        except SecretsUnavailableError:
            if kept is None:
                raise
            credentials = kept[1]
        self._kept[name] = (self._clock(), credentials)
        return credentials

    def refresh(self, name: str) -> bool:
        """Fetch again after PEMS refused the credentials. Whether they are others than before. When that fails, the last
        known secret serves on. Raises SecretsUnavailableError."""
        before = self._kept.get(name)
        credentials = self._provider.fetch(name)
        self._kept[name] = (self._clock(), credentials)
        return before is None or credentials != before[1]


_PROVIDERS: dict[str, type[EnvironmentSecrets] | type[AwsSecrets]] = {
    "environment": EnvironmentSecrets,
    "aws": AwsSecrets,
}
_cached: CachedSecrets | None = None


def secrets() -> CachedSecrets:
    """The process's secrets, by the setting SECRETS_BACKEND."""
    global _cached
    if _cached is None:
        _cached = CachedSecrets(_PROVIDERS[settings.SECRETS_BACKEND](), seconds=settings.SECRETS_CACHE_SECONDS)
    return _cached
