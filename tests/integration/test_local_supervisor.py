"""The supervisor of the embedded stack, and the knobs of `make up`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis

from deploy.local.options import Options
from deploy.local.program import ROOT, Program, StackError
from deploy.local.services import Services
from deploy.local.state import StateDirectory
from deploy.local.supervisor import Supervisor, restart_delay_seconds
from tests.integration.embedded import durable, eventually, keep_a_row, listener, open_place, scalar

pytestmark = pytest.mark.process

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")
DEAF = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
)


@pytest.fixture
def place() -> Iterator[Path]:
    with open_place() as directory:
        yield directory


@pytest.fixture
def state(place: Path) -> Iterator[StateDirectory]:
    directory = StateDirectory(place / "var")
    with directory.claimed():
        yield directory


@pytest.fixture
def supervisor(state: StateDirectory) -> Iterator[Supervisor]:
    supervisor = Supervisor(state)
    yield supervisor
    supervisor.stop()


def written_pids(state: StateDirectory) -> dict[str, list[int]]:
    pids: dict[str, list[int]] = json.loads((state.path / "pids.json").read_text())
    return pids


def programs(state: StateDirectory, *names: str, argv: tuple[str, ...] = SLEEP) -> list[Program]:
    return [Program(name, argv, state.log(name)) for name in names]


def test_a_killed_process_is_back_within_two_seconds_and_pids_json_follows(
    state: StateDirectory, supervisor: Supervisor
) -> None:
    supervisor.watch("web", programs(state, "web"))
    supervisor.watch("worker-write", programs(state, "w1", "w2"))
    before = written_pids(state)
    assert set(before) == {"web", "worker-write", "worker-control", "beat", "flower", "redis", "postgres", "sandbox"}
    os.kill(before["worker-write"][0], signal.SIGKILL)
    assert eventually(
        lambda: len(written_pids(state)["worker-write"]) == 2 and written_pids(state) != before, seconds=2
    )
    after = written_pids(state)
    assert after["web"] == before["web"]
    assert after["worker-write"][1] == before["worker-write"][1]
    os.kill(after["worker-write"][0], 0)


def test_killed_servers_come_back_on_their_ports(place: Path) -> None:
    with durable(place / "var") as services:
        state = StateDirectory(place / "var")
        supervisor = Supervisor(state)
        try:
            assert services.postgres
            assert services.redis
            supervisor.watch("postgres", [services.postgres.program])
            supervisor.watch("redis", [services.redis.program])
            keep_a_row(services)
            open_connection = psycopg.connect(services.database_url)
            before = supervisor.pids()
            for role in ("postgres", "redis"):
                os.kill(before[role][0], signal.SIGKILL)
            assert eventually(lambda: supervisor.pids()["postgres"] not in ([], before["postgres"]), seconds=2)
            assert eventually(lambda: _answers(services))
            assert scalar(services, "SELECT answer FROM kept") == 42
            open_connection.close()
        finally:
            supervisor.stop()
        assert written_pids(state)["postgres"] == []


def _answers(services: Services) -> bool:
    try:
        with redis.Redis.from_url(services.redis_url) as client:
            client.ping()
        return scalar(services, "SELECT 1") == 1
    except (psycopg.OperationalError, redis.ConnectionError):
        return False


def test_restarts_are_immediate_at_first_and_slow_down_for_what_keeps_dying() -> None:
    delays = [restart_delay_seconds(ends) for ends in range(12)]
    assert delays[:2] == [0.0, 0.0]
    assert max(delays[:9]) <= 2.0
    assert delays == sorted(delays)
    assert delays[-1] == 30.0


def test_a_process_that_will_not_go_is_killed(state: StateDirectory, supervisor: Supervisor) -> None:
    [deaf] = programs(state, "deaf", argv=DEAF)
    supervisor.watch("web", [deaf])
    assert eventually(lambda: "deaf" in deaf.log.read_text())
    supervisor.stop_role("web", seconds=0.3)
    assert not deaf.running
    assert written_pids(state)["web"] == []


def test_an_ordered_end_is_not_undone(state: StateDirectory, supervisor: Supervisor) -> None:
    supervisor.watch("beat", programs(state, "beat"))
    supervisor.stop_role("beat")
    time.sleep(0.4)
    assert supervisor.pids()["beat"] == []


@pytest.mark.parametrize("port", ["zero", "0", "70000", "-1", "٣"])
def test_a_port_that_is_none_is_refused_by_name(port: str) -> None:
    with pytest.raises(StackError, match="PORT="):
        Options.from_environment({"PORT": port})


def test_a_taken_port_ends_make_up_before_anything_starts(place: Path) -> None:
    port = StateDirectory(place).new_port("web")
    with closing(listener(port)):
        done = subprocess.run(
            [sys.executable, "-m", "deploy.local.up"],
            cwd=ROOT,
            env={**os.environ, "PORT": str(port), "VAR_DIR": str(place / "var")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Port {port} of 127.0.0.1 is taken" in done.stderr
    assert not (place / "var").exists()
