"""One edit of a quiet organization while another has 100,000 queued and the workers send as fast as they may (D9)."""

from __future__ import annotations

import time

from deploy.demo.edits import usable
from deploy.demo.planner import Planner
from tests.bench.backlog import queue_edits
from tests.bench.measures import Bench, Figure, bench
from tests.bench.watching import Watch, at, set_batch_size

QUEUED = 100_000
QUIET_EDITS = 8
BAR_SECONDS = 2.0


def fairness() -> list[Figure]:
    """From the accepted commit to its write in PEMS, the longest of a few, with single writes and with batches."""
    with bench(records=20_000, knobs={"PEMS_BATCH": "off"}) as each:
        return measured(each, QUEUED)


def measured(each: Bench, queued: int) -> list[Figure]:
    shown: list[Figure] = []
    quiet = Planner(each.stack.base_url, "org-portarthur", "portarthur-planner", each.planner.password)
    quiet.sign_in()
    database_url = each.stack.services.database_url
    queue_edits(database_url, organization="org-rio", planner="rio-planner", count=queued, tag="LOUD")
    for form, size in (("singles", 1), ("batches", 100)):
        set_batch_size(each.stack, size)
        taken, between, sent = _quiet_ones(each, quiet, form)
        shown += [
            Figure(f"fairness, {form}: quiet edit behind {queued:,}, longest", round(max(taken), 2), "s",
                   f"<= {BAR_SECONDS:g}", max(taken) <= BAR_SECONDS, "D9"),
            Figure(f"fairness, {form}: loud edits written first, most", max(between), "", "", True, "D9"),
            Figure(f"fairness, {form}: loud edits written a second", round(sent), "", "", sent > 0, "D9"),
        ]  # fmt: skip
    return shown


def _quiet_ones(each: Bench, quiet: Planner, form: str) -> tuple[list[float], list[int], float]:
    """Seconds, and loud edits written meanwhile, for each quiet edit; and the loud ones' rate."""
    records = [record for record in quiet.records() if usable(record)]
    accepted: dict[str, float] = {}
    loud = Watch(each.stack, each.sandbox, "LOUD")
    _until_sending(loud)
    for number in range(QUIET_EDITS):
        record = records[-1 - number]
        body = {"changes": {"model": f"QUIET-{form}-{number}"}, "baseVersion": record["version"]}
        quiet.call("PUT", f"/api/pfa/org-portarthur/drafts/{record['pfaId']}", json=body)
        quiet.write_sync()
        accepted[record["pfaId"]] = time.time()
        time.sleep(0.7)
    mine = Watch(each.stack, each.sandbox, f"QUIET-{form}")
    mine.wait_for(lambda states: states.get("confirmed", 0) == QUIET_EDITS, 60)
    writes = {entry["pfaId"]: at(entry) for entry in mine.writes()}
    others = [at(entry) for entry in loud.writes()]
    taken = [max(0.0, writes[pfa_id] - since) for pfa_id, since in accepted.items()]
    between = [sum(since < when < writes[pfa_id] for when in others) for pfa_id, since in accepted.items()]
    first, last = min(accepted.values()), max(writes.values())
    return taken, between, sum(first < when < last for when in others) / (last - first)


def _until_sending(loud: Watch) -> None:
    before = len(loud.writes())
    deadline = time.monotonic() + 30
    while len(loud.writes()) < before + 20:
        assert time.monotonic() < deadline, "the loud organization's edits are not being sent"
        time.sleep(0.2)
