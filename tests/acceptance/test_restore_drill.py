"""`make restore-drill`, the short form: the runbook of a restore, carried out against real servers and processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.drill.__main__ import drill
from deploy.local.program import ROOT
from deploy.local.stack import silence

RUNBOOK = (ROOT / "deploy" / "runbooks" / "restore.md").read_text()


@pytest.mark.process
def test_nothing_in_the_archive_is_lost_or_written_twice(tmp_path: Path) -> None:
    """Base backup and WAL, restored while PEMS has moved on. The other way, by a dump: `make restore-drill`."""
    verdict = drill(tmp_path, some=2, ways=("wal",), report=silence)["wal"]
    assert verdict.wrong == [], verdict.figures
    assert verdict.figures["foundWritten"] == 1, "the conflict was decided after the last segment"
    assert verdict.figures["withAPerson"] >= 2, "the dead letter, and what PEMS took back"


def test_every_command_of_the_runbook_is_one_that_the_drill_carries_out() -> None:
    told = re.findall(r"^    .*(?:manage\.py|deploy\.local\.backup) ([\w-]+)", RUNBOOK, re.MULTILINE)
    places = [*(ROOT / "deploy" / "drill").glob("*.py"), ROOT / "deploy" / "local" / "stack.py"]
    source = "".join(path.read_text() for path in places)
    assert len(told) >= 9
    assert [name for name in told if f'"{name}"' not in source] == []
