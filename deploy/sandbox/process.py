"""A sandbox as a child process, for tests, benchmarks and the demo."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import requests

_REPOSITORY = Path(__file__).resolve().parents[2]
_START_SECONDS = 15.0


class SandboxError(Exception):
    """The sandbox did not start, or refused a control."""


class SandboxProcess:
    """Runs between `with` and its end, on a free port unless told otherwise, and on the same one after `restart`.

    Controls raise SandboxError when refused. With `user` or `api_key` only these credentials are accepted.
    """

    def __init__(
        self,
        *,
        records: int = 8807,
        seed: int = 1,
        port: int = 0,
        rate_limit: int = 10,
        latency_ms: int = 0,
        state: Path | None = None,
        user: str = "",
        password: str = "",
        api_key: str = "",
    ) -> None:
        self.port = port
        self._user, self._password, self._api_key = user, password, api_key
        file = state.absolute() if state is not None else None
        options = {"records": records, "seed": seed, "rate-limit": rate_limit, "latency-ms": latency_ms, "state": file}
        self._options = [
            part for name, value in options.items() if value is not None for part in (f"--{name}", str(value))
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as this object
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Connection"] = "close"  # a kept connection would not survive a kill

    @classmethod
    def at(cls, url: str) -> Self:
        """The controls of a sandbox that somebody else has started on this machine."""
        return cls(port=urlsplit(url).port or 80)

    # ------------------------------------------------------------------ life

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Returns when requests are answered. Raises SandboxError with what the sandbox said."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deploy.sandbox", "--port", str(self.port), *self._options],
            cwd=_REPOSITORY,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.port = self._announced_port(self._process)
        return self

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help within 5 seconds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9, and waits until it is gone."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """kill -9 and a new start on the same port."""
        self.kill()
        return self.start()

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise SandboxError("the sandbox is not running")
        return self._process.pid

    # ------------------------------------------------------------------ as PEMS

    def headers(self, organization: str) -> dict[str, str]:
        """What every call to PEMS carries, with credentials that are accepted."""
        headers = {"tenant": "DEMO", "organization": organization}
        if self._api_key:
            return {**headers, "X-API-Key": self._api_key}
        pair = f"{self._user or 'sandbox'}:{self._password or 'sandbox'}"
        return {**headers, "Authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    def record(self, pfa_id: str, organization: str) -> dict[str, Any]:
        """A record as PEMS shows it; counts as a request like any other, and waits where there were too many."""
        for _ in range(20):
            reply = self._http.get(f"{self.url}/api/pems/pfa/{pfa_id}", headers=self.headers(organization), timeout=10)
            if reply.status_code != 429:
                break
            time.sleep(0.25)
        return self._accepted(reply)

    # ------------------------------------------------------------------ controls

    def control(self, path: str, json: dict[str, Any] | None = None, *, method: str | None = None) -> dict[str, Any]:
        """One call under /sandbox/: POST with a body, GET without, unless told otherwise."""
        method = method or ("GET" if json is None else "POST")
        return self._accepted(self._http.request(method, f"{self.url}/sandbox/{path}", json=json, timeout=30))

    def stats(self) -> dict[str, Any]:
        return self.control("stats")

    def reset_stats(self) -> dict[str, Any]:
        """Forgets requests, peak and violations; writes and keys stay counted."""
        return self.control("stats/reset", {})

    def audit(self, pfa_id: str | None = None) -> list[dict[str, Any]]:
        """All entries, oldest first."""
        return list(self._audit_pages(pfa_id))

    def faults(self, **parts: Any) -> dict[str, Any]:
        """Replaces the named parts of the plan (rates, script, switches, operations, outage, seed); shows it."""
        return self.control("faults", parts or None)

    def script(self, kind: str, **details: Any) -> dict[str, Any]:
        """A script of one line in place of the present one: `script("lost_reply", pfaId="PFA-10001")`."""
        return self.faults(script=[{"kind": kind, **details}])

    def clear_faults(self) -> dict[str, Any]:
        return self.control("faults", method="DELETE")

    def edit(
        self, pfa_id: str, changes: dict[str, Any], *, modified_by: str = "pems.user", bump: int = 1
    ) -> dict[str, Any]:
        """Another user changes the record in PEMS: `{pfaId, version, updatedAt, record}`."""
        wanted = {"pfaId": pfa_id, "changes": changes, "modifiedBy": modified_by, "bump": bump}
        return self.control("edit", wanted)

    def edit_many(self, edits: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """As `edit`, each with the keys of the wire; an edit that is refused has `error` in its place."""
        results: list[dict[str, Any]] = self.control("edit", {"edits": list(edits)})["results"]
        return results

    def remove(self, *pfa_ids: str) -> None:
        """The records vanish from PEMS."""
        self.control("remove", {"pfaIds": list(pfa_ids)})

    def reset(self, *, records: int | None = None, seed: int | None = None) -> None:
        """Back to the seeded data, nothing counted, no faults; webhooks and settings stay."""
        wanted = {"records": records, "seed": seed}
        self.control("reset", {name: value for name, value in wanted.items() if value is not None})

    def settings(self, *, rate_limit: int | None = None, latency_ms: float | None = None) -> dict[str, Any]:
        wanted = {"rateLimit": rate_limit, "latencyMs": latency_ms}
        return self.control("settings", {name: value for name, value in wanted.items() if value is not None})

    def webhook(self, url: str, secret: str, *, repeat: float = 0.0) -> dict[str, Any]:
        """Subscribes an address to changes; `repeat` is the probability of a second delivery."""
        return self.control("webhook", {"url": url, "secret": secret, "repeat": repeat})

    # ------------------------------------------------------------------ behind the scenes

    def _audit_pages(self, pfa_id: str | None) -> Iterator[dict[str, Any]]:
        after: int | None = 0
        while after is not None:
            wanted = {"after": str(after), "limit": "5000", **({"pfaId": pfa_id} if pfa_id else {})}
            reply = self.control(f"audit?{urlencode(wanted)}")
            yield from reply["items"]
            after = reply["nextAfter"]

    def _accepted(self, reply: requests.Response) -> dict[str, Any]:
        if reply.status_code != 200:
            raise SandboxError(f"{reply.request.method} {reply.url}: {reply.status_code} {reply.text[:500]}")
        shown: dict[str, Any] = reply.json()
        return shown

    def _environment(self) -> dict[str, str]:
        own = {"PEMS_USER": self._user, "PEMS_PASSWORD": self._password, "PEMS_API_KEY": self._api_key}
        return {**os.environ, **own}

    def _announced_port(self, process: subprocess.Popen[bytes]) -> int:
        """From the line the sandbox prints when it listens."""
        output = process.stdout
        deadline = time.monotonic() + _START_SECONDS
        if output is not None and select.select([output], [], [], deadline - time.monotonic())[0]:
            words = output.readline().decode().split()
            if words:
                return int(words[3].rpartition(":")[2])
        self.kill()
        self._errors.seek(0)
        raise SandboxError(f"the sandbox did not start: {self._errors.read().decode(errors='replace').strip()}")

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        self._http.close()
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
