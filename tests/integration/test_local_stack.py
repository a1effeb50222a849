"""The embedded PostgreSQL and Redis: real servers, real crashes."""

import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis

from deploy.local.account import Account, unprivileged
from deploy.local.leftovers import living_in
from deploy.local.program import ROOT, StackError
from deploy.local.services import backing_services
from tests.integration.embedded import (
    durable,
    embedded,
    eventually,
    host,
    keep_a_row,
    listener,
    listening,
    open_place,
    scalar,
)

pytestmark = pytest.mark.process


@pytest.fixture
def place() -> Iterator[Path]:
    with open_place() as directory:
        yield directory


def test_two_stacks_run_side_by_side_and_keep_their_ports(place: Path) -> None:
    seen = []
    for _ in range(2):
        with embedded(place / "one") as one, embedded(place / "two") as two:
            assert one.database_url != two.database_url
            assert scalar(one, "SELECT 1") == scalar(two, "SELECT 1") == 1
            with redis.Redis.from_url(one.redis_url) as first, redis.Redis.from_url(two.redis_url) as second:
                first.set("whose", "one")
                assert second.get("whose") is None
            seen.append((one.redis_url, two.redis_url))
        assert not listening(one.database_url)
        assert not listening(one.redis_url)
    assert seen[0] == seen[1]


def test_settings_of_the_embedded_servers(place: Path) -> None:
    with durable(place / "var") as services:
        settings = {
            name: scalar(services, f"SHOW {name}")
            for name in ("fsync", "timezone", "server_encoding", "max_connections")
        }
        assert settings == {"fsync": "on", "timezone": "UTC", "server_encoding": "UTF8", "max_connections": "200"}
        assert scalar(services, "SHOW listen_addresses") == "127.0.0.1"
        with redis.Redis.from_url(services.redis_url) as client:
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            assert client.config_get("save")["save"] == ""
    assert {path.name: path.stat().st_mode & 0o077 for path in (place / "var").glob("*.secret")} == {
        "postgres.secret": 0
    }


def test_a_wrong_password_is_refused(place: Path) -> None:
    with embedded(place / "var") as services:
        secret = (place / "var" / "postgres.secret").read_text()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(services.database_url.replace(secret, "guess"))


def test_a_directory_serves_one_stack_at_a_time(place: Path) -> None:
    with embedded(place / "var"), pytest.raises(StackError, match="in use by a running stack"), embedded(place / "var"):
        pass


def test_nothing_committed_is_lost_when_everything_is_killed(place: Path) -> None:
    var_dir = place / "var"
    with durable(var_dir) as first:
        keep_a_row(first)
    with host(var_dir) as (process, database_url, _, postgres_pid, redis_pid):
        for victim in (process.pid, postgres_pid, redis_pid):
            os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: not listening(database_url))
    assert list(var_dir.glob("postgres/data/postmaster.pid")), "the crash should have left its lock file"
    with durable(var_dir) as again:
        assert again.database_url == database_url
        assert scalar(again, "SELECT answer FROM kept") == 42


def test_a_lock_file_that_names_a_living_stranger_is_no_obstacle(place: Path) -> None:
    with durable(place / "var"):
        pass
    lock = place / "var" / "postgres" / "data" / "postmaster.pid"
    account = unprivileged()
    stranger = subprocess.Popen(
        ["sleep", "60"], user=account.user_id if account else None
    )  # one PostgreSQL would believe
    lock.write_text(f"{stranger.pid}\n{lock.parent}\n")
    try:
        with durable(place / "var") as services:
            assert scalar(services, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_servers_die_with_a_killed_parent(place: Path) -> None:
    with host(place / "var") as (process, database_url, redis_url, *_):
        process.kill()
        assert eventually(lambda: not listening(database_url) and not listening(redis_url))


def test_a_server_that_outlived_its_run_is_ended(place: Path) -> None:
    with host(place / "var") as (process, database_url, _, postgres_pid, _):
        os.kill(postgres_pid, signal.SIGSTOP)  # cannot act on the signal that its parent's death sends
        process.kill()
        process.wait()
    assert postgres_pid in living_in(place / "var" / "postgres" / "data", "postgres")
    with embedded(place / "var") as services:
        assert services.database_url == database_url
        assert postgres_pid not in living_in(place / "var" / "postgres" / "data", "postgres")
        assert scalar(services, "SELECT 1") == 1


def test_a_port_that_somebody_took_is_given_up(place: Path) -> None:
    with embedded(place / "var") as first:
        port = int(first.redis_url.rpartition(":")[2].split("/")[0])
    with closing(listener(port)), embedded(place / "var") as again:
        assert again.redis_url != first.redis_url
        assert again.database_url == first.database_url


def test_given_addresses_are_used_and_nothing_is_started(place: Path) -> None:
    with embedded(place / "theirs") as theirs:
        given = {"DATABASE_URL": theirs.database_url, "REDIS_URL": theirs.redis_url}
        with backing_services(place / "ours", given=given) as ours:
            assert (ours.database_url, ours.redis_url) == (theirs.database_url, theirs.redis_url)
            assert (ours.postgres, ours.redis) == (None, None)
        assert not (place / "ours" / "postgres").exists()
        assert scalar(theirs, "SELECT 1") == 1


@pytest.mark.parametrize(
    ("knob", "url"),
    [
        ("DATABASE_URL", "postgresql://user:hush@127.0.0.1:1/pems"),
        ("DATABASE_URL", "mysql://user:hush@127.0.0.1:1/pems"),
        ("REDIS_URL", "redis://:hush@127.0.0.1:1/0"),
        ("REDIS_URL", "http://:hush@127.0.0.1:1/0"),
    ],
)
def test_an_address_where_nothing_answers_is_named_without_its_password(place: Path, knob: str, url: str) -> None:
    with pytest.raises(StackError) as caught, backing_services(place / "var", given={knob: url}):
        pass
    assert f"{knob} names " in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)
    assert "unset it to use the embedded" in str(caught.value)
    assert "hush" not in str(caught.value)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")


@needs_root
def test_a_closed_parent_directory_moves_the_data_and_is_named(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    var_dir = closed / "var"
    with embedded(var_dir) as services:
        assert scalar(services, "SELECT 1") == 1
        home = Path(json.loads((var_dir / "postgres.home").read_text()))
    assert f"may not enter {closed}" in capfd.readouterr().out
    assert closed.stat().st_mode & 0o777 == 0o700
    assert not home.exists(), "data of tests are thrown away"


@needs_root
def test_postgres_does_not_run_as_root(place: Path) -> None:
    with embedded(place / "var") as services:
        assert services.postgres
        assert Path(f"/proc/{services.postgres.program.pid}").stat().st_uid != 0


def test_an_ordinary_user_runs_the_services(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("already an ordinary user: every other test here shows it")
    entry = pwd.getpwnam("nobody")
    nobody = Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    packages = Path(psycopg.__file__).parents[1]
    python = reachable_python(nobody)
    for needed in (ROOT, packages, Path(python).resolve().parent):
        if obstacle := nobody.obstacle(needed):
            pytest.skip(f"user nobody may not enter {obstacle}, so it cannot use {needed}")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    trial = subprocess.run(
        [python, "-c", "import psycopg, redis"], env=env, capture_output=True, text=True, check=False
    )
    if trial.returncode:
        pytest.skip(f"{python} cannot use our packages: {trial.stderr.strip().splitlines()[-1]}")
    var_dir = place / "var"
    var_dir.mkdir()
    nobody.own(var_dir)
    with host(var_dir, python, nobody, env) as (_, database_url, _, postgres_pid, _):
        assert Path(f"/proc/{postgres_pid}").stat().st_uid == nobody.user_id
        psycopg.connect(database_url).close()
    assert eventually(lambda: not listening(database_url))


def reachable_python(account: Account) -> str:
    """Ours, or the system's of the same version where ours lives in a closed home directory."""
    ours = Path(sys.executable).resolve()
    systems = Path(f"/usr/bin/python3.{sys.version_info.minor}")
    return str(systems if account.obstacle(ours.parent) and systems.exists() else sys.executable)
