"""Places where a test may kill a worker, to prove that nothing is lost there.

`PEMS_CRASH_POINTS` names a folder. A file in it, named like a boundary, arms it: the first passage removes the file and
kills the whole worker (its session), as `kill -9` of the main process does. A file with a PFA id in it stays, and kills
only the process that holds that record, each time: a poisonous edit. Unset, as everywhere outside tests, each call is one
comparison.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

_FOLDER = os.environ.get("PEMS_CRASH_POINTS", "")

BOUNDARIES = (
    "before_claim",
    "after_claim",
    "task_received",
    "after_reserve",
    "after_start",
    "after_applied",
    "after_reply",
    "before_settle_commit",
    "after_settle_commit",
)


def reached(point: str, *pfa_ids: str) -> None:
    if _FOLDER:
        _die_if_armed(Path(_FOLDER) / point, pfa_ids)


def _die_if_armed(file: Path, pfa_ids: tuple[str, ...]) -> None:
    try:
        poison = file.read_text()
        if poison and poison in pfa_ids:
            os.kill(os.getpid(), signal.SIGKILL)
        elif not poison:
            file.unlink()  # of several that come by at once only one goes on
            os.killpg(os.getpgid(0), signal.SIGKILL)
    except FileNotFoundError:
        return
