"""Places where a test may kill this very process, to prove that nothing is lost there.

`PEMS_CRASH_AT=after_start` kills the process with SIGKILL at the first passage; `after_start:PFA-10001` only when
that record is at hand. Unset, as everywhere outside tests, each call is one comparison.
"""

from __future__ import annotations

import os
import signal

_ARMED = os.environ.get("PEMS_CRASH_AT", "")

BOUNDARIES = (
    "before_claim",
    "after_claim",
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
    if wanted == point and (not pfa_id or pfa_id in pfa_ids):
        os.kill(os.getpid(), signal.SIGKILL)
