"""A client and a pace for a stored connection."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from pems_sync.client.base import PemsClient
from pems_sync.client.counting import Counting
from pems_sync.client.gateway import GatewayClient
from pems_sync.client.pace import Pace
from pems_sync.client.secrets import Credentials, secrets
from pems_sync.models import Connection
from pems_sync.store import redis_store


def client_for(connection: Connection) -> PemsClient:
    """Raises SecretsUnavailableError. Kept per address and credentials, so that its connections stay open."""
    credentials = secrets().fetch(connection.secret_name)
    return _gateway(connection.base_url, connection.tenant, credentials, float(settings.PEMS_REQUEST_TIMEOUT))


def pace_for(connection: Connection) -> Pace:
    return _pace(connection.slug, connection.requests_per_second)


def counting_for(connection: Connection) -> Counting:
    return _counting(connection.slug)


@lru_cache(maxsize=32)
def _gateway(base_url: str, tenant: str, credentials: Credentials, total_seconds: float) -> GatewayClient:
    return GatewayClient(base_url=base_url, tenant=tenant, credentials=credentials, total_seconds=total_seconds)


@lru_cache(maxsize=32)
def _pace(connection: str, requests_per_second: float) -> Pace:
    return Pace(redis_store(), connection=connection, requests_per_second=requests_per_second)


@lru_cache(maxsize=32)
def _counting(connection: str) -> Counting:
    return Counting(redis_store(), connection=connection)
