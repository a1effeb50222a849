"""After the main job, the other direction: people settle the conflicts, one record goes back to what it was, other people
change records in PEMS, and in the end both sides are compared."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.demo.edits import usable
from deploy.demo.planner import DemoError, Planner
from deploy.local.stack import Stack
from deploy.sandbox.process import SandboxProcess

Report = Callable[[str], None]
MOST_FOREIGN_EDITS = 500
SETTLE_SECONDS = 120.0


@dataclass(frozen=True)
class Afterwards:
    """`resolved`: conflicts people settled; `inbound_changed`: changes made in PEMS that arrived here; `differences`:
    between here and PEMS, as `reconcile` counts them."""

    resolved: int
    inbound_changed: int
    differences: int


def carry_on(
    stack: Stack, sandbox: SandboxProcess, planners: Sequence[Planner], edited: set[str], report: Report
) -> Afterwards:
    """`edited`: PFA ids of the main job, left alone by the people in PEMS. Raises DemoError, and StackError when
    `verify` finds something."""
    sandbox.clear_faults()
    resolved = sum(_settle_conflicts(planner) for planner in planners)
    report(f"{resolved} conflicts settled: some each way, one merged, the rest in bulk.")
    for planner in planners:
        _wait_for_quiet(planner)
    lead = Planner(stack.base_url, planners[0].organization, "rio-lead", stack.options.demo_password)
    lead.sign_in()
    rolled_back = _roll_one_back(lead, sandbox)
    report(f"{rolled_back} was rolled back to what it was before the demo.")
    arrived = _change_in_pems(sandbox, planners, edited, report)
    differences = sum(_reconcile(stack, planner.organization) for planner in planners)
    report(f"Both sides compared: {differences} differences.")
    stack.manage("verify", "--all")
    report("The database was verified: every edit, attempt and journal entry is as it must be.")
    return Afterwards(resolved, arrived, differences)


def _settle_conflicts(planner: Planner) -> int:
    """Ours, PEMS's, one merged with PEMS's value by name, and from the fourth on all in bulk."""
    conflicts = list(planner.pages("/api/pems/conflicts", organizationId=planner.organization, status="unresolved"))
    for conflict, resolution in zip(conflicts, ("use_local", "use_pems", "merge"), strict=False):
        body: dict[str, Any] = {"resolution": resolution, "seenPemsVersion": conflict["pemsVersion"], "comment": "demo"}
        if resolution == "merge":
            body["mergedData"] = {field["name"]: field["theirs"] for field in conflict["fields"]}
        planner.call("POST", f"/api/pems/conflicts/{conflict['id']}/resolve", json=body)
    return min(3, len(conflicts)) + _settle_alike(planner, [each["id"] for each in conflicts[3:]])


def _settle_alike(planner: Planner, ids: list[str]) -> int:
    if not ids:
        return 0
    body: dict[str, Any] = {"organizationId": planner.organization, "ids": ids, "resolution": "use_local"}
    token = planner.call("POST", "/api/pems/conflicts/bulk-resolve", json={**body, "preview": True})["previewToken"]
    done = planner.call(
        "POST", "/api/pems/conflicts/bulk-resolve", json={**body, "preview": False, "previewToken": token}
    )
    if done["skipped"] or done["failed"]:
        raise DemoError(f"bulk resolve left some: {done['skipped']} {done['failed']}")
    return len(done["applied"])


def _wait_for_quiet(planner: Planner) -> None:
    def quiet() -> bool:
        state = planner.status()
        return not state["totalQueued"] + state["processing"] + state["unknown"]

    _until(quiet, f"the edits of {planner.organization} did not all reach PEMS")


def _roll_one_back(lead: Planner, sandbox: SandboxProcess) -> str:
    """The first confirmed edit of the demo, undone by its record's history."""
    edit = next(row for row in lead.modifications() if row["status"] == "synced" and row["reason"] == "demo")
    path = f"/api/pfa/{lead.organization}/records/{edit['pfaId']}"
    versions = list(lead.pages(f"{path}/history"))
    own = next(number for number, each in enumerate(versions) if each["modificationId"] == edit["id"])
    body = {"version": versions[own + 1]["version"], "reason": "demo: back to what it was"}
    preview = lead.call("POST", f"{path}/rollback", json={**body, "preview": True})
    lead.call("POST", f"{path}/rollback", json={**body, "preview": False})
    _wait_for_quiet(lead)
    now = lead.call("GET", path)["fields"]
    missed = [each["field"] for each in preview["changes"] if now[each["field"]] != each["to"]]
    if missed or not preview["changes"]:
        raise DemoError(f"{edit['pfaId']} was not rolled back: {missed or 'nothing to change'}")
    return str(edit["pfaId"])


def _change_in_pems(sandbox: SandboxProcess, planners: Sequence[Planner], edited: set[str], report: Report) -> int:
    """People in PEMS change records that nobody edits here. How many of their changes arrived."""
    share = MOST_FOREIGN_EDITS // len(planners)
    wanted = {planner.organization: _untouched(planner, edited)[:share] for planner in planners}
    sandbox.edit_many(
        [{"pfaId": pfa_id, "changes": {"areaSilo": "Yard 9"}} for some in wanted.values() for pfa_id in some]
    )
    for planner in planners:
        planner.call("POST", "/api/pems/pull", json={"organizationId": planner.organization})
    arrived = 0

    def all_here() -> bool:
        nonlocal arrived
        arrived = sum(_shown(planner, set(wanted[planner.organization])) for planner in planners)
        return arrived == sum(len(some) for some in wanted.values())

    _until(all_here, "changes made in PEMS did not arrive")
    report(f"{arrived} records were changed by people in PEMS, and arrived here.")
    return arrived


def _untouched(planner: Planner, edited: set[str]) -> list[str]:
    return [row["pfaId"] for row in planner.records() if usable(row) and row["pfaId"] not in edited]


def _shown(planner: Planner, pfa_ids: set[str]) -> int:
    return sum(row["pfaId"] in pfa_ids and row["fields"]["areaSilo"] == "Yard 9" for row in planner.records())


def _reconcile(stack: Stack, organization: str) -> int:
    stack.manage("reconcile", organization, "--json")
    last = (stack.options.var_dir / "log" / "manage.log").read_text().strip().splitlines()[-1]
    return int(json.loads(last)["differences"])


def _until(done: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise DemoError(f"{failure} within {SETTLE_SECONDS:g} s")
        time.sleep(0.5)
