"""Trouble that tests of the engine switch on."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pems_sync.events import ModificationConflicted
from pems_sync.journal import event_recorded


@pytest.fixture
def failing_conflicts() -> Iterator[Callable[[str], None]]:
    """Call it with a PFA id: from then on the receiver raises for conflicts of that record."""
    wanted: set[str] = set()

    def refuse(event: ModificationConflicted, **_: Any) -> None:
        if event.pfa_id in wanted:
            raise ZeroDivisionError(event.pfa_id)

    event_recorded.connect(refuse, sender=ModificationConflicted, weak=False)
    yield wanted.add
    event_recorded.disconnect(refuse, sender=ModificationConflicted)
