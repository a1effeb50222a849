"""Flower on a real fleet: behind a password, to look and not to touch, telling support whose edit a task is (S10)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from deploy.demo.edits import usable
from deploy.demo.planner import Planner
from deploy.local.asking import answer_status
from deploy.local.options import Options
from deploy.local.stack import Stack
from deploy.sandbox.process import SandboxProcess
from tests.acceptance.fleet import ROLES, SHORT_WAITS, Fleet, wait_until

pytestmark = pytest.mark.process

PEMS_PASSWORD, DEMO_PASSWORD, WEBHOOK_SECRET = "canary-of-pems", "canary-of-people", "canary-of-webhooks"
SUPPORT = ("support", DEMO_PASSWORD)
REASON = "crane needed earlier"
PAGES = ("/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/api/task/types", "/api/queues/length")


@dataclass
class Desk:
    """Flower as support sees it."""

    fleet: Fleet

    def get(self, path: str, auth: tuple[str, str] | None = SUPPORT, **params: str) -> requests.Response:
        url = self.fleet.stack.flower_url + path
        return requests.get(url, params=params, auth=auth, timeout=10, allow_redirects=False)

    def post(self, path: str, **body: Any) -> requests.Response:
        return requests.post(self.fleet.stack.flower_url + path, auth=SUPPORT, json=body, timeout=10)

    def workers(self) -> dict[str, bool]:
        """Whether each is online, as their events tell."""
        found: dict[str, bool] = self.get("/api/workers", status="true").json()
        return found

    def tasks(self, name: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.get("/api/tasks", taskname=name).json()
        return found

    def arguments_of(self, name: str) -> str:
        """As they are shown, of all tasks of this name."""
        return "\n".join(str(task["args"]) for task in self.tasks(name).values())


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    options = Options(
        var_dir=tmp_path_factory.mktemp("flower"), roles=ROLES - {"beat"} | {"flower"}, records=60, write_workers=1,
        own_services=True, throwaway=True, passed_on=SHORT_WAITS, pems_password=PEMS_PASSWORD,
        demo_password=DEMO_PASSWORD, pems_webhook_secret=WEBHOOK_SECRET,
    )  # fmt: skip
    with Stack(options) as stack:
        planner = Planner(stack.base_url, "org-rio", "rio-planner", options.demo_password)
        planner.sign_in()
        sandbox = SandboxProcess.at(stack.sandbox_url)
        desk = Desk(Fleet(stack, planner, sandbox, [record for record in planner.records() if usable(record)]))
        wait_until(lambda: answer_status(stack.flower_url) == 401, 20)
        wait_until(lambda: list(desk.workers().values()) == [True, True], 20, desk.workers)
        yield desk


def test_nobody_looks_without_the_password(desk: Desk) -> None:
    for path in PAGES:
        for auth in (None, ("support", "guess"), ("somebody", DEMO_PASSWORD)):
            answer = desk.get(path, auth=auth)
            assert answer.status_code == 401, (path, auth)
            assert "pems" not in answer.text


def test_nobody_touches_the_fleet(desk: Desk) -> None:
    worker = next(iter(desk.workers()))
    for path in (
        "/api/task/apply/pems_sync.sweep", "/api/task/async-apply/pems_sync.sweep",
        "/api/task/send-task/pems_sync.sweep", "/api/task/revoke/some-task", "/api/task/rate-limit/pems_sync.deliver",
        f"/api/worker/shutdown/{worker}", f"/api/worker/pool/shrink/{worker}", f"/api/worker/pool/restart/{worker}",
        f"/api/worker/queue/cancel-consumer/{worker}",
    ):  # fmt: skip
        assert desk.post(path, args=[], workername=worker).status_code == 403, path
    assert desk.workers()[worker]


def test_support_reads_whose_edit_a_task_is_about_and_no_credential(desk: Desk) -> None:
    delivered, pfa_id = edit(desk, "FLOWER-1")
    desk.fleet.wait_for(delivered, "synced")
    desk.fleet.sandbox.script("item_422")
    buried, refused_pfa_id = edit(desk, "FLOWER-2")
    desk.fleet.wait_for(buried, "failed")

    wait_until(lambda: f"RIO {pfa_id} · {REASON}" in desk.arguments_of("pems_sync.deliver"), 10)
    wait_until(lambda: refused_pfa_id in desk.arguments_of("pems_sync.dead_letter"), 10)
    told = desk.arguments_of("pems_sync.dead_letter")
    assert f"RIO {refused_pfa_id} rejected" in told, told

    shown = "\n".join(desk.get(path).text for path in pages_of(desk))
    assert f"RIO {pfa_id}" in shown
    database_password = desk.fleet.stack.services.database_url.partition("@")[0].rpartition(":")[2]
    for secret in (PEMS_PASSWORD, DEMO_PASSWORD, WEBHOOK_SECRET, database_password, "FLOWER-1", "Bearer"):
        assert secret not in shown, secret


def edit(desk: Desk, model: str) -> tuple[str, str]:
    """Draft and commit with a reason: (modification id, PFA id)."""
    call, record = desk.fleet.planner.call, desk.fleet.records.pop()
    body = {"changes": {"model": model}, "baseVersion": record["version"], "reason": REASON}
    draft = call("PUT", f"/api/pfa/org-rio/drafts/{record['pfaId']}", json=body)
    call(
        "POST", "/api/pems/write-sync", json={"organizationId": "org-rio", "modificationIds": [draft["modificationId"]]}
    )
    return draft["modificationId"], record["pfaId"]


def pages_of(desk: Desk) -> list[str]:
    """Everything there is to look at, each worker's and each task's own page among it."""
    workers = [f"/worker/{name}" for name in desk.workers()]
    tasks = [f"/task/{key}" for name in ("deliver", "dead_letter") for key in desk.tasks(f"pems_sync.{name}")]
    return [*PAGES, "/metrics", *workers, *tasks]
