"""The state directory (`VAR_DIR`): everything a stack remembers between two runs, claimed by one run at a time."""

import fcntl
import json
import os
import random
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

from deploy.local.program import StackError

# Below the range from which outgoing connections get theirs: a server that is restarted finds its port free.
PORTS = range(20_000, 32_000)


class StateDirectory:
    """Names places under `VAR_DIR` and remembers ports and secrets there."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Holds the directory for this process; StackError when another does. The kernel releases it after a crash."""
        with self._open_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(
                    f"{self.path} is in use by a running stack: stop that one, or set VAR_DIR to another directory."
                ) from None
            yield

    def _open_lock(self) -> IO[str]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0 and self._is_ours():
                # Lets the account of the database pass; what is inside stays closed.
                self.path.chmod(self.path.stat().st_mode | 0o011)
            return (self.path / "lock").open("a")
        except OSError as error:
            raise StackError(
                f"VAR_DIR {self.path} cannot be used ({error.strerror}): set VAR_DIR to a directory you may write."
            ) from error

    def _is_ours(self) -> bool:
        return (self.path / "lock").exists() or not any(self.path.iterdir())

    def directory(self, name: str) -> Path:
        """A private directory in here."""
        place = self.path / name
        place.mkdir(mode=0o700, exist_ok=True)
        return place

    def log(self, name: str) -> Path:
        return self.directory("log") / f"{name}.log"

    def port(self, name: str) -> int:
        """The port this name had the last time, or a new one when it had none or somebody else listens there now."""
        remembered = self._ports().get(name)
        return remembered if remembered and is_free(remembered) else self.new_port(name)

    def new_port(self, name: str) -> int:
        others = set(self._ports().values())
        port = next(port for port in random.sample(PORTS, len(PORTS)) if port not in others and is_free(port))
        write_atomically(self.path / "ports.json", json.dumps(self._ports() | {name: port}))
        return port

    def _ports(self) -> dict[str, int]:
        ports: dict[str, int] = self.remembered("ports.json", {})
        return ports

    def remembered(self, name: str, default: Any) -> Any:
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return default

    def secret(self, name: str) -> str:
        """A password that was made up at the first call and is kept, readable for us alone."""
        place = self.path / f"{name}.secret"
        if not place.exists():
            write_atomically(place, secrets.token_urlsafe(24))
        return place.read_text()


def write_atomically(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Readers see the old text or the new one, never a part; unless told otherwise the file is ours alone to read."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    draft.touch(mode=mode)
    draft.write_text(text)
    draft.replace(path)


def is_free(port: int) -> bool:
    """True when nobody listens on this port of 127.0.0.1. Connections that are still closing do not count."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True
