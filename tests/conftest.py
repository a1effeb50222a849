"""Fixtures of the whole suite. PostgreSQL and Redis are real: tests/services.py starts them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection as database

from deploy.sandbox.process import SandboxProcess
from pems_sync.models import Connection, Organization
from pems_sync.store import redis_store
from tests import cast as people
from tests.engine import Engine

SHARED_FLEETS = {"stage", "watched"}
"""Fixtures of whole folders."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side on several cores, tests that share a running stack stay together: mostly those of a file."""
    for item in items:
        if item.get_closest_marker("process"):
            shared = SHARED_FLEETS & set(getattr(item, "fixturenames", ()))
            item.add_marker(pytest.mark.xdist_group(min(shared, default=str(item.path))))


@pytest.fixture(autouse=True)
def _append_only_tables_can_be_emptied(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that commits is cleaned up by TRUNCATE, which the append-only triggers refuse. Only between tests."""
    if "transactional_db" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("transactional_db")
    _session_role("origin")
    yield
    _session_role("replica")


def _session_role(role: str) -> None:
    with database.cursor() as cursor:
        cursor.execute(f"SET session_replication_role = {role}")


@pytest.fixture(autouse=True)
def _clean_redis(request: pytest.FixtureRequest) -> None:
    """Limits and paces of one test are nothing to the next. The server belongs to this test run alone."""
    if {"db", "transactional_db"} & set(request.fixturenames):
        redis_store().flushdb()


@pytest.fixture
def connection(db: None) -> Connection:
    return people.make_connection()


@pytest.fixture
def rio(connection: Connection) -> Organization:
    return people.make_organization(connection, "org-rio", "RIO")


@pytest.fixture
def portarthur(connection: Connection) -> Organization:
    return people.make_organization(connection, "org-portarthur", "PORTARTHUR")


@pytest.fixture
def cast(rio: Organization, portarthur: Organization) -> people.Cast:
    return people.make_cast(rio, portarthur)


@pytest.fixture
def make_record():
    return people.make_record


@pytest.fixture
def api():
    return people.api_client


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[SandboxProcess]:
    with SandboxProcess(records=60, rate_limit=0) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(sandbox_process: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> SandboxProcess:
    """A PEMS of 60 records, as if new, with credentials in the environment."""
    monkeypatch.setenv("PEMS_USER", "sandbox")
    monkeypatch.setenv("PEMS_PASSWORD", "sandbox")
    sandbox_process.reset()
    return sandbox_process


@pytest.fixture
def engine(sandbox: SandboxProcess, rio: Organization, cast: people.Cast) -> Engine:
    """The engine with RIO's records loaded, at a pace that does not slow tests down."""
    Connection.objects.update(base_url=sandbox.url, requests_per_second=500)
    rio.connection.refresh_from_db()
    warm_pace(rio.connection)
    engine = Engine(sandbox, rio, cast.planner)
    engine.pull()
    return engine


def warm_pace(connection: Connection) -> None:
    """A pace that is new waits two seconds before its first slot: as if they had passed."""
    redis_store().hset(f"pems-sync:pace:{connection.slug}", "next", "0")
