"""A running fleet for each module that hurts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.fleet import Fleet, fleet


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet")) as each:
        yield each


@pytest.fixture(scope="package")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Its workers find out within three seconds that they are deaf. Shared by modules."""
    with fleet(tmp_path_factory.mktemp("watched"), records=60, knobs={"WORKER_WATCHDOG_SECONDS": "3"}) as each:
        yield each


@pytest.fixture
def fault_free(running: Fleet) -> Iterator[None]:
    """Afterwards PEMS answers as it should again."""
    yield
    running.sandbox.clear_faults()
    running.sandbox.settings(latency_ms=0)
