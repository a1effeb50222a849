"""Places where a test may kill a worker, to prove that nothing is lost there.

`PEMS_CRASH_AT=after_start` kills the whole worker (its session, as `kill -9` of the main process does) at the first
passage; `after_start:PFA-10001` only when that record is at hand, and then only the process that holds it, as a poisonous
edit would. Unset, as everywhere outside tests, each call is one comparison.
"""

from __future__ import annotations

import os
import signal

_ARMED = os.environ.get("PEMS_CRASH_AT", "")

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
    if not _ARMED:
        return
    wanted, _, pfa_id = _ARMED.partition(":")
    if wanted != point:
        return
    if not pfa_id:
        os.killpg(os.getpgid(0), signal.SIGKILL)
    elif pfa_id in pfa_ids:
        os.kill(os.getpid(), signal.SIGKILL)
