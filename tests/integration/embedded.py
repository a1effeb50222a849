"""What the tests of the embedded stack share: places for it, a process that holds it, questions to its servers."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg

from deploy.local.account import Account
from deploy.local.program import ROOT
from deploy.local.services import Services, backing_services
from deploy.local.state import is_free

# Starts the services, say where they are, wait to be killed.
HOST = """
import sys, time, json
from pathlib import Path
from deploy.local.services import backing_services
with backing_services(Path(sys.argv[1]), throwaway=True, given={}) as found:
    pids = [found.postgres.program.pid, found.redis.program.pid]
    print(json.dumps([found.database_url, found.redis_url, *pids]), flush=True)
    time.sleep(600)
"""


@contextmanager
def open_place() -> Iterator[Path]:
    """A directory that every user may enter, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="pems-sync-stack-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def embedded(var_dir: Path) -> AbstractContextManager[Services]:
    """Services that trade durability for speed."""
    return backing_services(var_dir, throwaway=True, given={})


def durable(var_dir: Path) -> AbstractContextManager[Services]:
    """Services as `make up` has them."""
    return backing_services(var_dir, given={})


@contextmanager
def host(
    var_dir: Path, python: str = sys.executable, account: Account | None = None, env: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str, str, int, int]]:
    """A process of its own that holds the services; yields it with their addresses and process ids."""
    process = subprocess.Popen(
        [python, "-c", HOST, str(var_dir)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        user=account.user_id if account else None,
        group=account.group_id if account else None,
        extra_groups=[] if account else None,
    )
    try:
        assert process.stdout
        yield (process, *json.loads(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


def eventually(holds: Callable[[], object], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False


def listening(url: str) -> bool:
    return not is_free(int(url.rpartition(":")[2].split("/")[0]))


def scalar(services: Services, sql: str) -> object:
    with psycopg.connect(services.database_url) as connection:
        row = connection.execute(sql).fetchone()
    return row[0] if row else None


def keep_a_row(services: Services) -> None:
    with psycopg.connect(services.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def listener(port: int) -> socket.socket:
    """Somebody else who has this port."""
    open_socket = socket.socket()
    open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    open_socket.bind(("127.0.0.1", port))
    open_socket.listen()
    return open_socket
