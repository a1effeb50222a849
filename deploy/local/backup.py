"""Backups of the embedded PostgreSQL, and their restore into another `VAR_DIR` (deploy/runbooks/restore.md).

python -m deploy.local.backup archive               before `make up`: keep every WAL segment from the next start on
python -m deploy.local.backup base DIRECTORY        of the running stack: a base backup, the start of a point in time
python -m deploy.local.backup dump FILE             of the running stack: pg_dump, one moment
python -m deploy.local.backup restore-dump FILE     into a new VAR_DIR
python -m deploy.local.backup restore-base DIRECTORY WAL [UNTIL]
                                                    into a new VAR_DIR: the base backup and the segments behind it
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local.options import Options
from deploy.local.postgres import Postgres
from deploy.local.program import StackError
from deploy.local.state import StateDirectory, write_atomically

ARCHIVE_SECONDS = 60
"""A segment is closed after this time even when it is not full: what is lost at most, besides the way to the archive."""
SECRET = "postgres.secret"  # noqa: S105  (a file's name)


@contextmanager
def offline(var_dir: Path) -> Iterator[Postgres]:
    """The cluster of a stack that does not run; whoever enters starts it, and it is stopped at the end."""
    state = StateDirectory(var_dir)
    with state.claimed():
        postgres = Postgres(state)
        try:
            yield postgres
        finally:
            postgres.stop(seconds=30)


def archive(var_dir: Path, *, seconds: int = ARCHIVE_SECONDS) -> Path:
    """From the next start on every WAL segment is copied, once closed, into the directory that is returned."""
    with offline(var_dir) as postgres:
        postgres.start()
        place = postgres.directory("wal-archive")
        for name, value in {
            "archive_mode": "on",
            "archive_command": f'test ! -f "{place}/%f" && cp "%p" "{place}/%f.part" && mv "{place}/%f.part" "{place}/%f"',
            "archive_timeout": f"{seconds}s",
        }.items():
            postgres.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    return place


def base(postgres: Postgres, place: Path) -> None:
    """A copy of the running cluster. It is whole with the segments archived until this returns."""
    postgres.tool("pg_basebackup", "--dbname", postgres.url, "--pgdata", str(place / "data"), "--checkpoint=fast",
                  "--wal-method=fetch")  # fmt: skip
    _keep_secret(postgres, place)


def dump(postgres: Postgres, file: Path) -> None:
    """The database as of one moment, compressed, for `restore_dump`."""
    postgres.tool("pg_dump", "--dbname", postgres.url, "--format=custom", "--file", str(file))


def restore_dump(var_dir: Path, file: Path) -> None:
    """Into a new cluster."""
    with offline(var_dir) as postgres:
        _demand_new(postgres)
        postgres.start()
        postgres.tool("pg_restore", "--dbname", postgres.url, "--no-owner", "--exit-on-error", str(file))


def restore_base(var_dir: Path, place: Path, wal: Path, *, until: str = "") -> None:
    """The base backup, then every archived segment, in order, to their end or to a time. Returns when that is done."""
    var_dir.mkdir(parents=True, exist_ok=True)
    _demand_readable(place / "data", wal)
    write_atomically(var_dir / SECRET, (place / SECRET).read_text())
    with offline(var_dir) as postgres:
        _demand_new(postgres)
        postgres.adopt(place / "data")
        segments = postgres.directory("wal-restored")
        shutil.copytree(wal, segments, dirs_exist_ok=True)
        _recover_from(postgres, segments, until)
        postgres.start()
        while postgres.execute("SELECT pg_is_in_recovery()") != [(False,)]:
            time.sleep(0.05)
        shutil.rmtree(segments, ignore_errors=True)


def _recover_from(postgres: Postgres, segments: Path, until: str) -> None:
    settings = {
        "restore_command": f'cp "{segments}/%f" "%p"',
        "recovery_target_time": until,
        "recovery_target_action": "promote",
        "archive_mode": "off",  # or the copy would write among the segments of the original
    }
    with (postgres.data / "postgresql.auto.conf").open("a") as text:
        text.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    (postgres.data / "recovery.signal").touch()
    for place in (segments, postgres.data / "recovery.signal"):
        postgres.own(place)


def _demand_new(postgres: Postgres) -> None:
    if postgres.data.exists():
        raise StackError(f"{postgres.data} holds a cluster already: set VAR_DIR to a new directory.")


def _demand_readable(*places: Path) -> None:
    for place in places:
        if not place.is_dir():
            raise StackError(f"{place} is no directory: name the one that `base` and `archive` wrote.")


def _keep_secret(postgres: Postgres, place: Path) -> None:
    """The password is part of the cluster."""
    write_atomically(place / SECRET, postgres.password)


@contextmanager
def running(var_dir: Path) -> Iterator[Postgres]:
    """The cluster of a stack that runs in another process."""
    try:
        json.loads((var_dir / "environment.json").read_text())
    except (OSError, ValueError) as error:
        raise StackError(f"No stack runs in {var_dir}: start it with `make up`, or set VAR_DIR.") from error
    yield Postgres.of_running(StateDirectory(var_dir))


def main(words: Sequence[str], env: Mapping[str, str] = os.environ) -> int:
    """Of `env` only VAR_DIR counts. The exit code."""
    var_dir = Options.from_environment({"VAR_DIR": env.get("VAR_DIR", "")}).var_dir
    places = [Path(word).absolute() for word in words[1:3]]
    commands: dict[tuple[str, int], Callable[[], object]] = {
        ("archive", 1): lambda: print(f"WAL segments go to {archive(var_dir)} from the next start on."),
        ("base", 2): lambda: _of_running(var_dir, base, places[0]),
        ("dump", 2): lambda: _of_running(var_dir, dump, places[0]),
        ("restore-dump", 2): lambda: restore_dump(var_dir, places[0]),
        ("restore-base", 3): lambda: restore_base(var_dir, *places),
        ("restore-base", 4): lambda: restore_base(var_dir, *places, until=words[3]),
    }
    command = commands.get((words[0] if words else "", len(words)))
    if command is None:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        command()
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _of_running(var_dir: Path, take: Callable[[Postgres, Path], None], place: Path) -> None:
    with running(var_dir) as postgres:
        take(postgres, place)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
