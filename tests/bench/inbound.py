"""A pull's own time and memory: whole runs over a real database, with pages from memory instead of PEMS, and no pace.

`figures` starts PostgreSQL and Redis of its own and measures each run in a process of its own, because memory is counted
by process.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.bench.measures import Figure

PAGE_ROWS = 1000
CHANGED, UNCHANGED = 10_000, 100_000
_BEGAN = datetime(2026, 1, 31, tzinfo=UTC)


def figures() -> list[Figure]:
    with _services() as environment:
        _child(environment, "load", CHANGED, 1)
        changed = _child(environment, "pull", CHANGED, 2)
        _child(environment, "load", UNCHANGED, 2)
        unchanged = _child(environment, "pull", UNCHANGED, 2)
    assert changed["changed"] == CHANGED, changed
    seconds, written, megabytes = changed["seconds"], unchanged["written"], unchanged["megabytes"]
    return [
        Figure(f"inbound: {CHANGED} changed rows, own time", seconds, "s", "< 5", seconds < 5, "N3"),
        Figure(f"inbound: {UNCHANGED} unchanged rows, rows written", written, "", "= 0", written == 0, "N3"),
        Figure("inbound: the same, most memory of the process", megabytes, "MB", "< 200", megabytes < 200, "N3"),
        Figure("inbound: the same, own time", unchanged["seconds"], "s", "", True, "N3"),
    ]


@contextmanager
def _services() -> Iterator[dict[str, str]]:
    from deploy.local.services import backing_services

    with (
        tempfile.TemporaryDirectory(prefix="pems-sync-bench-") as place,
        backing_services(Path(place), throwaway=True) as services,
    ):
        environment = {**os.environ, "DATABASE_URL": services.database_url, "REDIS_URL": services.redis_url}
        environment |= {"LOG_LEVEL": "ERROR", "DJANGO_SETTINGS_MODULE": "config.settings.local"}
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(migrate, env=environment, check=True, timeout=120)
        yield environment


def _child(environment: dict[str, str], task: str, rows: int, version: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.inbound", task, str(rows), str(version)]
    done = subprocess.run(command, env=environment, check=True, timeout=600, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


# ---------------------------------------------------------------------- in the child


def _body(rows: int, version: int, start: int) -> bytes:
    """A page of the list as PEMS sends it."""
    items = [_row(number, version) for number in range(start, min(start + PAGE_ROWS, rows))]
    cursor = str(start + PAGE_ROWS) if start + PAGE_ROWS < rows else None
    page = {"items": items, "nextCursor": cursor, "serverTime": "2026-02-28T00:00:00Z", "total": rows}
    return json.dumps(page).encode()


def _row(number: int, version: int) -> dict[str, Any]:
    at = _BEGAN + timedelta(seconds=number)
    return {
        "pfaId": f"PFA-{number}", "organizationCode": "BENCH", "version": version, "updatedAt": at.isoformat(),
        "updatedBy": "j.doe", "description": f"Excavator {number}", "category": "Earthmoving", "class": "Excavator",
        "source": "Rental", "dor": "PROJECT", "areaSilo": f"Area {version}", "manufacturer": "CAT", "model": "330",
        "monthlyRate": 5500.0 + version, "purchasePrice": None, "originalStart": "2026-01-01",
        "originalEnd": "2026-06-30", "forecastStart": "2026-01-15", "forecastEnd": "2026-06-30", "actualStart": None,
        "actualEnd": None, "isActualized": False, "isDiscontinued": False, "isFundsTransferable": True,
        "hasPlan": True, "hasActuals": False, "contract": "C-100", "equipment": None,
    }  # fmt: skip


class _PagesFromMemory:
    """Stands where PEMS and the pace stand. `spent`: seconds that making the pages took, which are not ours."""

    total_seconds = 20.0

    def __init__(self, rows: int, version: int) -> None:
        self.rows, self.version, self.spent = rows, version, 0.0

    def page(self, *, cursor: str | None = None, **_: Any) -> Any:
        from pems_sync.client.answers import page_of, parse_json

        begun = time.perf_counter()
        body = _body(self.rows, self.version, int(cursor or 0))
        self.spent += time.perf_counter() - begun
        return page_of(parse_json(body), organization_code="BENCH")

    def wait(self, **_: Any) -> bool:
        return True


def _run(task: str, rows: int, version: int) -> dict[str, Any]:
    import django

    django.setup()
    from pems_sync import inbound
    from pems_sync.inbound.pages import Reader
    from pems_sync.models import Connection, Organization

    connection, _ = Connection.objects.get_or_create(slug="bench", base_url="http://127.0.0.1:1")
    organization, _ = Organization.objects.get_or_create(
        slug="bench", code="BENCH", connection=connection, defaults={"name": "Bench"}
    )
    pems: Any = _PagesFromMemory(rows, version)
    Reader.of = classmethod(lambda cls, _, **__: cls(organization, pems, pems))  # type: ignore[assignment,method-assign]
    before, begun = _transaction(), time.perf_counter()
    pulled = inbound.pull(organization, full=True)
    seconds = time.perf_counter() - begun - pems.spent
    return {
        "task": task, "seconds": round(seconds, 2), "changed": pulled.changed,
        "written": _written_since(before),
        "megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }  # fmt: skip


def _transaction() -> int:
    """Every row written from now on carries a higher number."""
    return _number("SELECT txid_current()")


def _written_since(transaction: int) -> int:
    """Records and versions of them."""
    tables = ("pems_sync_record", "pems_sync_recordversion")
    counts = [f"SELECT count(*) FROM {table} WHERE xmin::text::bigint > {transaction}" for table in tables]  # noqa: S608
    return sum(_number(count) for count in counts)


def _number(sql: str) -> int:
    from django.db import connection as database

    with database.cursor() as cursor:
        cursor.execute(sql)
        found: tuple[int] = cursor.fetchone()
    return found[0]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))) + "\n")
