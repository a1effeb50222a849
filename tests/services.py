"""Throwaway PostgreSQL and Redis for this test run.

Started when pytest loads this plugin (`-p tests.services` in pyproject.toml), before Django reads its settings.
Nothing is started for what DATABASE_URL and REDIS_URL name. Two runs side by side share nothing, nor do the processes
of `pytest -n`: each has its own pair, and the one that only hands out the tests has none.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.local.program import StackError
from deploy.local.services import backing_services

_ending = ExitStack()
_starter = os.getpid()


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """A wrapper, to run before pytest-django's own, which reads the settings."""
    if "PYTEST_XDIST_WORKER" in os.environ or not getattr(early_config.known_args_namespace, "numprocesses", None):
        start()
    elif os.environ.get("REDIS_URL"):
        pytest.exit("REDIS_URL names one Redis, which each test empties: run without -n, or without REDIS_URL.", 2)
    return (yield)


def start() -> None:
    if os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"):
        return
    place = Path(tempfile.mkdtemp(prefix="pems-sync-tests-"))
    _ending.callback(shutil.rmtree, place, ignore_errors=True)
    try:
        services = _ending.enter_context(backing_services(place, throwaway=True))
    except StackError as error:
        _ending.close()
        pytest.exit(str(error), returncode=2)
    os.environ.update(DATABASE_URL=services.database_url, REDIS_URL=services.redis_url)


def stop() -> None:
    if os.getpid() == _starter:  # a forked child of a test must not end the services of its parent
        _ending.close()


def pytest_unconfigure() -> None:
    stop()


atexit.register(stop)
