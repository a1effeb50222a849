"""Everything of pems-sync on this machine: for `make up`, the demo, tests and benchmarks."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from deploy.local.asking import answer_status
from deploy.local.options import Options
from deploy.local.program import ROOT, Program, StackError, tied
from deploy.local.roles import commands, web_names
from deploy.local.services import Services, backing_services
from deploy.local.state import StateDirectory, is_free, write_atomically
from deploy.local.supervisor import Supervisor

READY_SECONDS = 60.0
ADDRESSES = (
    "DATABASE_URL",
    "REDIS_URL",
    "PEMS_URL",
    "PEMS_USER",
    "PEMS_PASSWORD",
    "PEMS_TENANT",
    "PEMS_WEBHOOK_SECRET",
)
BESIDE_THE_PULL = ("worker-write", "worker-control", "beat", "flower")  # they are up by the time web is


def silence(sentence: str) -> None:
    """Reports nothing: for callers that are not a person at a terminal."""


class Stack:
    """Start it from a thread that lives as long as the stack does (see tether.py). A `with` block stops it, too."""

    services: Services
    supervisor: Supervisor

    def __init__(self, options: Options, report: Callable[[str], None] = silence) -> None:
        self.options = replace(options, var_dir=options.var_dir.absolute())
        self._report = report
        self._state = StateDirectory(self.options.var_dir)
        self._ports: dict[str, int] = {}
        self._webhook_secret = options.pems_webhook_secret
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._ports['web']}"

    @property
    def web_urls(self) -> list[str]:
        """Of all web processes, `base_url` first."""
        return [f"http://127.0.0.1:{self._ports[name]}" for name in web_names(self.options)]

    @property
    def flower_url(self) -> str:
        return f"http://127.0.0.1:{self._ports['flower']}"

    @property
    def sandbox_url(self) -> str:
        """Empty when the PEMS is somebody else's."""
        return f"http://127.0.0.1:{self._ports['sandbox']}" if self._has_sandbox else ""

    @property
    def _has_sandbox(self) -> bool:
        return "sandbox" in self.options.roles and not self.options.pems_url

    def start(self) -> None:
        """Returns when every wanted role runs and web is ready; StackError, with nothing left running, if not."""
        self._refuse_taken_ports()
        self._demand_pems()
        try:
            self._start_services()
            self._start_pems()
            self._prepare()
            self._start_roles(*BESIDE_THE_PULL)
            self._pull()
            self._start_roles("web")
            self._await_web()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all within 20 seconds. Calling it again does nothing."""
        self._ending.close()

    def pids(self) -> dict[str, list[int]]:
        """Main process ids by role, as in pids.json."""
        return self.supervisor.pids()

    def start_role(self, role: str, once: Mapping[str, str] | None = None) -> None:
        """Starts the processes of one role. `once` is extra environment for their first life, not for restarts."""
        environment = self.environment(role)
        lasting = {
            name: environment | dict(self.options.extra_env.get(name, {}))
            for name in commands(role, self.options, self._ports)
        }
        programs = [
            Program(name, argv, self._state.log(name), lasting[name] | dict(once or {}))
            for name, argv in commands(role, self.options, self._ports).items()
        ]
        self.supervisor.watch(role, programs)
        for program in programs:
            program.env = lasting[program.name]

    def stop_role(self, role: str) -> None:
        self.supervisor.stop_role(role)

    def manage(self, *words: str) -> None:
        """Runs a management command to its end; StackError with its last words when it fails."""
        log = self._state.log("manage")
        command = tied((sys.executable, "manage.py", *words), signal.SIGKILL)
        with log.open("wb") as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment("manage"),
                cwd=ROOT,
                start_new_session=True,
                check=False,
            )
        if done.returncode:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise StackError(f"`manage.py {' '.join(words)}` failed with:\n{tail}")

    def environment(self, role: str) -> dict[str, str]:
        """What a process of this role finds in its environment; for callers that start one of their own, too."""
        pems_url = self.options.pems_url or self.sandbox_url
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings.local",
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": self.services.database_url,
            "REDIS_URL": self.services.redis_url,
            "VAR_DIR": str(self.options.var_dir),
            "PORT": str(self._ports["web"]),
            "PEMS_URL": pems_url,
            "PEMS_USER": self.options.pems_user,
            "PEMS_PASSWORD": self.options.pems_password,
            "PEMS_TENANT": self.options.pems_tenant,
            "PEMS_WEBHOOK_SECRET": self._webhook_secret,
            "DEMO_PASSWORD": self.options.demo_password,
            "FLOWER_PORT": str(self._ports["flower"]),
            "FLOWER_BASIC_AUTH": f"support:{self.options.demo_password}",
            **self.options.passed_on,
            **self.options.extra_env.get(role, {}),
        }

    def _refuse_taken_ports(self) -> None:
        wanted = {"PORT": self.options.port, "FLOWER_PORT": self.options.flower_port}
        if self._has_sandbox:
            wanted["SANDBOX_PORT"] = self.options.sandbox_port
        for knob, port in wanted.items():
            if port and not is_free(port):
                raise StackError(
                    f"Port {port} of 127.0.0.1 is taken: end what listens there, or set {knob} to another."
                )

    def _demand_pems(self) -> None:
        if self.options.pems_url and not answer_status(self.options.pems_url):
            raise StackError(
                f"PEMS_URL names {self.options.pems_url}, and nothing answers there: "
                "start that PEMS, correct PEMS_URL, or unset it to use the sandbox."
            )

    def _start_services(self) -> None:
        self._report("Starting PostgreSQL and Redis")
        given = {} if self.options.own_services else os.environ
        backing = backing_services(self.options.var_dir, throwaway=self.options.throwaway, given=given)
        self.services = self._ending.enter_context(backing)
        self._ports = {
            "web": self.options.port or self._state.port("web"),
            "flower": self.options.flower_port or self._state.port("flower"),
            "sandbox": self.options.sandbox_port or self._state.port("sandbox"),
            **{name: self._state.port(name) for name in web_names(self.options)[1:]},
        }
        self._webhook_secret = self._webhook_secret or self._state.secret("webhook")
        self._state.directory("beat")
        self.supervisor = Supervisor(self._state, self._report)
        self._ending.callback(self.supervisor.stop)
        for role, server in (("postgres", self.services.postgres), ("redis", self.services.redis)):
            if server:
                self.supervisor.watch(role, [server.program])

    def _start_pems(self) -> None:
        if self._has_sandbox:
            self._report("Starting the PEMS sandbox")
            self.start_role("sandbox")
            self._await("sandbox", self.sandbox_url, lambda status: True)

    def _start_roles(self, *roles: str) -> None:
        for role in roles:
            if role in self.options.roles:
                self.start_role(role)

    def _leave_addresses(self) -> None:
        """For `manage.py` in another terminal. Gone again when the stack stops."""
        place = self.options.var_dir / "environment.json"
        environment = self.environment("manage")
        write_atomically(place, json.dumps({name: environment[name] for name in ADDRESSES}), mode=0o600)
        self._ending.callback(place.unlink, missing_ok=True)

    def _prepare(self) -> None:
        self._leave_addresses()
        self._report("Preparing the database")
        self.manage("migrate", "--noinput")
        self.manage("seed_demo")

    def _pull(self) -> None:
        if self.options.pull:
            self._report("Pulling the records from PEMS")
            self.manage("sync_pull", "--all")

    def _await_web(self) -> None:
        if "web" in self.options.roles:
            self._report("Waiting for web")
            for url in self.web_urls:
                self._await("web", f"{url}/api/health/ready", lambda status: status == http.client.OK)
            if {"worker-write", "worker-control", "beat"} <= self.options.roles:
                self._await("web", f"{self.base_url}/api/health/write-sync", lambda status: status == http.client.OK)

    def _await(self, role: str, url: str, good: Callable[[int], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not ((status := answer_status(url)) and good(status)):
            if time.monotonic() > deadline or self.supervisor.quick_ends(role) >= 3:
                tail = "\n".join(self._state.log(role).read_text(errors="replace").splitlines()[-20:])
                raise StackError(
                    f"{role} does not get ready (asked {url}, status {status or 'none'}); its log ends:\n{tail}"
                )
            time.sleep(0.1)
