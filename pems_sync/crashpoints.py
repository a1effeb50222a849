"""Places where a test may kill a process, to prove that nothing is lost there.

`PEMS_CRASH_POINTS` names a folder. Unset, as everywhere outside tests, each call is one comparison. In the folder:

- a file named like a boundary arms it: the first passage removes the file and kills the whole process (its session), as
  `kill -9` of a main process does;
- such a file with a PFA id in it stays, and kills only the child that holds that record, each time: a poisonous edit;
- a folder is a meeting: a file `boundary@id` in it stands for one record (or one organization, by its code) at one
  boundary. Who passes there removes its file and waits; when the last has come, all of them die at that moment.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_FOLDER = os.environ.get("PEMS_CRASH_POINTS", "")
_PATIENCE_SECONDS = 40.0

DELIVERY = (
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

PROOF = ("before_read", "after_read", "before_verdict_commit", "after_verdict_commit")

PULL = (
    "before_page",
    "after_page",
    "before_apply_commit",
    "after_apply_commit",
    "after_cursor",
    "before_run_end",
    "after_run_end",
)
"""The pages and the end are named by the organization's code, the rows between them by their PFA ids."""

WEBHOOK = ("before_note_commit", "after_note_commit", "before_named_read", "after_named_read", "before_forget")

INBOUND = PULL + WEBHOOK

RESOLVE = ("before_resolve_commit", "after_resolve_commit", "before_reopen_commit", "after_reopen_commit")

ROLLBACK = (
    "before_pems_read",
    "after_pems_read",
    "before_rollback_commit",
    "after_rollback_commit",
    "before_undo_commit",
    "after_undo_commit",
)


def reached(point: str, *ids: str) -> None:
    """`ids`: what is in hand here, PFA ids or the code of an organization."""
    if _FOLDER:
        folder = Path(_FOLDER)
        _die_if_armed(folder / point, ids)
        _meet(folder, point, ids)


def _die_if_armed(file: Path, ids: tuple[str, ...]) -> None:
    try:
        poison = file.read_text()
        if poison and poison in ids:
            os.kill(os.getpid(), signal.SIGKILL)
        elif not poison:
            file.unlink()  # of several that come by at once only one goes on
            _die()
    except FileNotFoundError:
        return


def _meet(folder: Path, point: str, ids: tuple[str, ...]) -> None:
    seats = [place / f"{point}@{each}" for place in folder.iterdir() if place.is_dir() for each in ids]
    for meeting in {seat.parent for seat in seats if _taken(seat)}:
        if _all_have_come(meeting):
            _die()


def _taken(seat: Path) -> bool:
    """False: it was not armed, or somebody else was here for this record."""
    try:
        seat.unlink()
    except FileNotFoundError:
        return False
    return True


def _all_have_come(meeting: Path) -> bool:
    """The last to come takes the folder away. False: somebody never came, and the work goes on."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            meeting.rmdir()
        except FileNotFoundError:
            return True
        except OSError:  # not empty yet
            time.sleep(0.01)
        else:
            return True
    return False


def _die() -> None:
    os.killpg(os.getpgid(0), signal.SIGKILL)
