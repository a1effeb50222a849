"""One fleet for the whole crash matrix: what would be slow one by one is brought to its boundaries together."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.fleet import Fleet, fleet

KNOBS = {
    "PEMS_BATCH": "off",
    "PEMS_API_RATE_LIMIT": "40",
    "WRITE_SYNC_RETRY_DELAY": "2",
    "PROOF_DELAYS": "1.5,1,2",
    "DATABASE_POOL_SIZE": "40",
}
"""Each edit travels alone, so that each may stand at a boundary of its own."""


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("stage"), knobs=KNOBS) as each:
        each.stack.manage("breaker", "demo", "closed", "--reason", "what goes wrong here goes wrong on purpose")
        yield each
