"""Everything here commits: other connections must see it."""

import pytest


@pytest.fixture(autouse=True)
def _really_committed(transactional_db: None) -> None:
    """Threads have connections of their own."""
