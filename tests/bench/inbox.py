"""How long the pages take that people settle conflicts on, with 5,000 open conflicts of one organization.

`python -m tests.bench.inbox` prints one JSON line. Requests go through Django's test client: everything of ours, from the
middleware to the last template, and no network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.local.program import ROOT
from deploy.local.services import backing_services
from tests.bench.sockets import set_up_django

if TYPE_CHECKING:
    from tests.bench.measures import Figure

CONFLICTS = 5_000
PAGES = 100
INBOX = "/admin/conflicts/conflict/"
QUERIES = ("", "?organization=org-rio", "?kind=edit_edit&age=hour", "?field=model", "?author=rio-planner", "?p=40")
BAR_MS = 150.0


def figures() -> list[Figure]:
    """For `make bench`. In a process of its own: the address of the database is for life."""
    from tests.bench.measures import Figure

    run = subprocess.run(
        [sys.executable, "-m", "tests.bench.inbox"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=300,
    )
    found = json.loads(run.stdout.splitlines()[-1])
    inbox, groups = found["inboxP95Ms"], found["groupsP95Ms"]
    of = f"{CONFLICTS:,} open conflicts"
    return [
        Figure(f"inbox with {of}, 95 of 100", inbox, "ms", f"< {BAR_MS:g} ms", inbox < BAR_MS, "F5"),
        Figure(f"groups of {of}, 95 of 100", groups, "ms", f"< {BAR_MS:g} ms", groups < BAR_MS, "F5"),
    ]


def measure() -> dict[str, float]:
    """The figures in milliseconds."""
    with (
        tempfile.TemporaryDirectory(prefix="pems-sync-bench-") as place,
        backing_services(Path(place), throwaway=True) as services,
    ):
        set_up_django(services)
        return _measured()


def _measured() -> dict[str, float]:
    from django.test import Client, override_settings

    planner = _filled()
    browser = Client()
    browser.force_login(planner)
    with override_settings(ALLOWED_HOSTS=["*"]):
        inbox = [_page(browser, INBOX + QUERIES[number % len(QUERIES)]) for number in range(PAGES + 5)][5:]
        groups = [_page(browser, f"{INBOX}groups/") for _ in range(PAGES // 4)]
    return {"inboxP95Ms": _p95(inbox), "groupsP95Ms": _p95(groups)}


def _filled() -> Any:
    """Rows as the engine leaves them, a record each, in groups of 25 that are alike."""
    from django.contrib.auth.models import User
    from django.utils import timezone

    from conflicts.models import Conflict
    from conflicts.sides import pattern_of, side_by_side
    from pems_sync.models import Modification, Record
    from pems_sync.models.organization import Role
    from pems_sync.states import State
    from tests.cast import make_connection, make_organization, make_user, plausible

    organization = make_organization(make_connection(), "org-rio", "RIO")
    planner = make_user("rio-planner", organization, Role.PLANNER)
    User.objects.update(is_staff=True)
    now = timezone.now()
    records = Record.objects.bulk_create(
        Record(
            organization=organization, pfa_id=f"PFA-{number}", version=5, content_hash="", changed_at=now,
            changed_by="j.doe", fields=plausible(model=f"THEIRS-{number // 25}"),
        )
        for number in range(CONFLICTS)
    )  # fmt: skip
    rows = Modification.objects.bulk_create(
        Modification(
            organization=organization, record=record, pfa_id=record.pfa_id, author=planner, authorised_by=planner,
            state=State.CONFLICTED, is_head=True, changes={"model": "OURS"},
            base={"model": "330", "isDiscontinued": False}, base_version=4, expected_version=4,
            saved_at=now, committed_at=now, queued_at=now, rank_at=now,
        )
        for record in records
    )  # fmt: skip
    conflicts = []
    for row, record in zip(rows, records, strict=True):
        fields = [side_by_side("model", row.base, row.changes, record.fields)]
        conflicts.append(
            Conflict(
                organization=organization, modification=row, pfa_id=row.pfa_id, kind="edit_edit", pems_version=5,
                fields=fields, field_names=["model"], pattern=pattern_of("edit_edit", fields), theirs_at=now,
            )
        )  # fmt: skip
    found = Conflict.objects.bulk_create(conflicts)
    for part in range(5):
        of_part = [conflict.pk for conflict in found[part::5]]
        Conflict.objects.filter(pk__in=of_part).update(opened_at=now - timedelta(hours=part))
    _analyze()
    return planner


def _analyze() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _page(browser: Any, address: str) -> float:
    begun = time.perf_counter()
    answer = browser.get(address)
    milliseconds = 1000 * (time.perf_counter() - begun)
    assert answer.status_code == 200, answer.status_code
    return milliseconds


def _p95(taken: list[float]) -> float:
    return round(sorted(taken)[int(len(taken) * 0.95)], 1)


def main() -> int:
    found = measure()
    print(json.dumps(found))
    return int(found["inboxP95Ms"] >= BAR_MS)


if __name__ == "__main__":
    raise SystemExit(main())
