"""Everything at once, from a fixed seed, through real processes (tests/torture): nothing lost, nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.run import torture

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

SEED, MINUTES = 1, 0.6


def test_a_short_storm_leaves_everything_accounted_for(tmp_path: Path) -> None:
    place = tmp_path / "torture"
    result = torture(SEED, MINUTES, place, print)
    assert result.good, "\n".join([str(result.figures), str(result.sentences), *result.stories, f"kept in {place}"])
    assert result.figures["edits"] > 50
    assert len(result.figures["faults"]) >= 8, result.figures["faults"]
