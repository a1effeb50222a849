"""How long a claim takes with a thousand edits queued and with a million (F8).

`python -m tests.bench.claiming` prints one JSON line. Nothing is sent: what a claim took goes behind the queue again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.program import ROOT
from deploy.local.services import Services, backing_services
from tests.bench.backlog import queue_edits
from tests.bench.sockets import set_up_django

if TYPE_CHECKING:
    from tests.bench.measures import Figure

FEW, MANY = 1_000, int(os.environ.get("CLAIMING_MANY", "1000000"))
CLAIMS = 40
MOST_TIMES = 1.5


def figures() -> list[Figure]:
    """For `make bench`. In a process of its own: the address of the database is for life."""
    from tests.bench.measures import Figure

    argv = [sys.executable, "-m", "tests.bench.claiming"]
    run = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=600)
    found = json.loads(run.stdout.splitlines()[-1])
    shown = []
    for form in ("singles", "batches"):
        few, many = found[f"{form}FewMs"], found[f"{form}ManyMs"]
        times = round(many / few, 2)
        name = f"claim of {form}, {MANY:,} queued against {FEW:,}"
        shown += [
            Figure(name, times, "times", f"<= {MOST_TIMES}", times <= MOST_TIMES, "F8"),
            Figure(f"claim of {form} with {MANY:,} queued", many, "ms", "", True, "F8"),
        ]
    return shown


def measure() -> dict[str, float]:
    """Milliseconds, of claims of five single edits, and of five batches of 100. The two lengths cannot be measured at the same
    time, so it is the time that nine of ten take longer than: what else the machine did then is left out."""
    with (
        tempfile.TemporaryDirectory(prefix="pems-sync-bench-") as place,
        backing_services(Path(place), throwaway=True, given={}) as services,
    ):
        set_up_django(services)
        return _measured(services)


def _measured(services: Services) -> dict[str, float]:
    from pems_sync.models.organization import Role
    from tests.cast import make_connection, make_organization, make_user

    connection = make_connection()
    make_user("rio-planner", make_organization(connection, "org-rio", "RIO"), Role.PLANNER)
    found = {}
    for name, count in (("Few", FEW), ("Many", MANY - FEW)):
        queue_edits(services.database_url, organization="org-rio", planner="rio-planner", count=count, tag="CLAIM")
        for form, size in (("singles", 1), ("batches", 100)):
            type(connection).objects.update(batch_size=size)
            taken = sorted(_claim_once(connection.pk, size) for _ in range(CLAIMS))
            found[f"{form}{name}Ms"] = round(1000 * taken[CLAIMS // 10], 2)
    return found


def _claim_once(connection_id: int, size: int) -> float:
    from pems_sync import scheduling

    begun = time.perf_counter()
    claims = scheduling.claim(connection_id)
    seconds = time.perf_counter() - begun
    assert [len(each.rows) for each in claims] == [size] * 5, claims
    _put_back([row.pk for each in claims for row in each.rows])
    return seconds


def _put_back(ids: list[object]) -> None:
    from django.db.models.functions import Now

    from pems_sync.models import Modification
    from pems_sync.states import State

    Modification.objects.filter(pk__in=ids).update(
        state=State.QUEUED, delivery_id=None, lease_until=None, rank_at=Now(), queued_at=Now()
    )


def main() -> int:
    found = measure()
    print(json.dumps(found))
    return int(any(found[f"{form}ManyMs"] > MOST_TIMES * found[f"{form}FewMs"] for form in ("singles", "batches")))


if __name__ == "__main__":
    raise SystemExit(main())
