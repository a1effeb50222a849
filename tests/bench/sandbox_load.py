"""How many requests a second the sandbox holds: 4 writes to 1 read, with a state file, client in another process.

`python -m tests.bench.sandbox_load` prints one JSON line and exits 1 below 1,000 requests a second.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path
from uuid import uuid4

import aiohttp

from deploy.sandbox.process import SandboxProcess

SECONDS = 5.0
CONNECTIONS = 16
RECORDS = 2000
BAR = 1000


class Load:
    def __init__(self, sandbox: SandboxProcess) -> None:
        self._base = f"{sandbox.url}/api/pems/pfa"
        self._headers = sandbox.headers("RIO")
        self._numbers = count()
        self._versions: dict[str, int] = {}
        self.statuses: Counter[int] = Counter()
        self.milliseconds: list[float] = []

    async def run(self) -> None:
        async with aiohttp.ClientSession(headers=self._headers) as http:
            async with http.get(self._base) as reply:
                self._versions = {item["pfaId"]: item["version"] for item in (await reply.json())["items"]}
            shares = [list(self._versions)[start::CONNECTIONS] for start in range(CONNECTIONS)]
            await asyncio.gather(*(self._keep_going(http, share) for share in shares))

    async def _keep_going(self, http: aiohttp.ClientSession, pfa_ids: list[str]) -> None:
        deadline = time.perf_counter() + SECONDS
        for number in count():
            pfa_id = pfa_ids[number % len(pfa_ids)]
            started = time.perf_counter()
            await (self._read(http, pfa_id) if number % 5 == 4 else self._write(http, pfa_id))
            ended = time.perf_counter()
            self.milliseconds.append((ended - started) * 1000)
            if ended > deadline:
                return

    async def _read(self, http: aiohttp.ClientSession, pfa_id: str) -> None:
        async with http.get(f"{self._base}/{pfa_id}") as reply:
            await reply.read()
            self.statuses[reply.status] += 1

    async def _write(self, http: aiohttp.ClientSession, pfa_id: str) -> None:
        body = {
            "pfaId": pfa_id,
            "organizationCode": "RIO",
            "changes": {"monthlyRate": next(self._numbers)},
            "version": self._versions[pfa_id],
            "modifiedBy": "bench",
            "changeReason": "load",
        }
        async with http.put(f"{self._base}/{pfa_id}", json=body, headers={"Idempotency-Key": str(uuid4())}) as reply:
            self._versions[pfa_id] = (await reply.json()).get("newVersion", 0)
            self.statuses[reply.status] += 1


def measure() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "sandbox.jsonl"
        with SandboxProcess(records=RECORDS, rate_limit=0, state=state) as sandbox:
            load = Load(sandbox)
            asyncio.run(load.run())
            peak = sandbox.stats()["peakRequestsPerSecond"]
    times = sorted(load.milliseconds)
    return {
        "benchmark": "sandbox_load",
        "requestsPerSecond": round(len(times) / SECONDS),
        "peakRequestsPerSecond": peak,
        "statuses": dict(load.statuses),
        "p50Ms": round(times[len(times) // 2], 2),
        "p99Ms": round(times[len(times) * 99 // 100], 2),
        "maxMs": round(times[-1], 2),
        "bar": BAR,
    }


if __name__ == "__main__":
    figures = measure()
    print(json.dumps(figures))
    sys.exit(0 if int(str(figures["requestsPerSecond"])) >= BAR else 1)
