"""The soak itself, for twenty seconds: too short to judge growth, long enough to see that everything is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.soak.__main__ import run

pytestmark = pytest.mark.process


@pytest.mark.timeout(240)
def test_a_short_soak_measures_everything_and_loses_nothing(tmp_path: Path) -> None:
    picture = tmp_path / "out" / "soak.png"
    figures = run(hours=20 / 3600, var=tmp_path / "var", picture=picture)
    assert figures["good"], figures
    assert figures["confirmed"] + figures["withdrawn"] + figures["superseded"] == figures["edits"] >= 60
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
    samples = [json.loads(line) for line in picture.with_suffix(".jsonl").read_text().splitlines()]
    assert len(samples) >= 5
    for role in ("web", "worker-write", "worker-control", "beat", "redis", "postgres", "sandbox"):
        assert samples[-1]["memoryMb"][role] > 1, role
        assert samples[-1]["files"][role] > 3, role
    assert samples[-1]["processes"]["worker-write"] >= 10, "the children of two workers are not counted"
    assert samples[-1]["connections"] > 5
    assert samples[-1]["redisClients"] > 5
    assert samples[-1]["tables"]["pems_sync_modification"]["bytes"] > 0
    assert not list((tmp_path / "var").iterdir()), "the folder of a good run stays behind"
