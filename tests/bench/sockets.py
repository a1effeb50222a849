"""How long one event takes to reach 1,000 sockets of one organization, held by one uvicorn process.

`python -m tests.bench.sockets [SOCKETS]` prints one JSON line and exits 1 when p99 is not under 100 ms. Counted from
before the transaction that writes the event to its arrival at each socket; writer, server and clients are three
processes and share the machine.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.local.program import ROOT
from deploy.local.services import Services, backing_services

if TYPE_CHECKING:
    from tests.bench.measures import Figure

SOCKETS = 1_000
EVENTS = 30
PER_USER = 1_000
BAR_MS = 100.0
SERVER = ("--lifespan", "off", "--no-access-log", "--log-level", "warning", "--ws", "websockets-sansio",
          "--ws-per-message-deflate", "false")  # fmt: skip


def figures() -> list[Figure]:
    """For `make bench`. In a process of its own: the address of the database is for life."""
    from tests.bench.measures import Figure

    run = subprocess.run(
        [sys.executable, "-m", "tests.bench.sockets"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    p99 = json.loads(run.stdout.splitlines()[-1])["p99Ms"]
    name = f"one event to {SOCKETS:,} sockets, p99"
    return [Figure(name, p99, "ms", f"< {BAR_MS:g} ms", p99 < BAR_MS, "F6")]


def measure(sockets: int = SOCKETS, events: int = EVENTS) -> dict[str, Any]:
    """The figures in milliseconds."""
    allow_files(2 * sockets + 500)
    with (
        tempfile.TemporaryDirectory(prefix="pems-sync-bench-") as place,
        backing_services(Path(place), throwaway=True) as services,
    ):
        set_up_django(services)
        return summary(reached(sockets, events), sockets)


def allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY and hard < count else max(soft, count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def set_up_django(services: Services) -> None:
    os.environ.update(DATABASE_URL=services.database_url, REDIS_URL=services.redis_url)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def reached(sockets: int, events: int) -> list[list[float]]:
    """Per event, the milliseconds it took to each socket."""
    from pems_sync.models.organization import Role
    from tests.cast import make_connection, make_organization, make_user
    from tests.integration.realtime_cast import free_port, happen, path_for

    organization = make_organization(make_connection(), "org-rio", "RIO")
    users = [make_user(f"rio-{number}", organization, Role.VIEWER) for number in range(1 + sockets // PER_USER)]
    paths = [path_for(users[number // PER_USER], organization) for number in range(sockets)]
    with web(free_port()) as port, clients(port, paths) as lines:
        time.sleep(1)
        return [one_event(lambda: happen(organization), lines) for _ in range(events)]


def one_event(write: Any, lines: Iterator[str]) -> list[float]:
    time.sleep(0.2)
    started = time.monotonic()
    seq = write()
    answer = json.loads(next(lines))
    assert answer.get("seq") == seq, answer
    return [(at - started) * 1000 for at in answer["times"]]


def summary(reached: list[list[float]], sockets: int) -> dict[str, Any]:
    every = [time for event in reached for time in event]
    cuts = statistics.quantiles(every, n=100)
    return {
        "sockets": sockets,
        "events": len(reached),
        "p50Ms": round(cuts[49], 1),
        "p99Ms": round(cuts[98], 1),
        "maxMs": round(max(every), 1),
        "firstSocketP50Ms": round(statistics.median(min(event) for event in reached), 1),
    }


@contextmanager
def web(port: int) -> Iterator[int]:
    argv = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port), *SERVER]
    process = subprocess.Popen(argv, cwd=ROOT)
    try:
        from tests.integration.realtime_cast import await_listening

        await_listening(f"127.0.0.1:{port}", process)
        yield port
    finally:
        process.terminate()
        process.wait(15)


@contextmanager
def clients(port: int, paths: list[str]) -> Iterator[Iterator[str]]:
    argv = [sys.executable, "-m", "tests.bench.socket_clients", "127.0.0.1", str(port)]
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write("\n".join(paths) + "\n\n")
        process.stdin.flush()
        assert process.stdout.readline() == "open\n", "not all sockets could be opened"
        yield iter(process.stdout)
    finally:
        process.kill()
        process.wait(15)


def main() -> int:
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else SOCKETS)
    print(json.dumps(found))
    return int(found["p99Ms"] >= BAR_MS)


if __name__ == "__main__":
    raise SystemExit(main())
