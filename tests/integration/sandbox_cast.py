"""The engine's side of the sandbox tests: a client, a running sandbox, and three records of RIO."""

from uuid import uuid4

import pytest
import requests

from deploy.sandbox.process import SandboxProcess
from deploy.sandbox.seed import generate

SEEDED = {record["pfaId"]: record for record in generate(300, 1)}
RIO = [record for record in SEEDED.values() if record["organizationCode"] == "RIO"]
ONE, TWO, THREE = RIO[:3]


class Client:
    """Calls as an engine would make them, one connection each."""

    def __init__(self, sandbox, organization="RIO"):
        self.sandbox, self.organization = sandbox, organization

    def call(self, method, path, timeout=5, headers=None, **request):
        sent = {**self.sandbox.headers(self.organization), "Connection": "close", **(headers or {})}
        sent = {name: value for name, value in sent.items() if value is not None}
        return requests.request(
            method,
            f"{self.sandbox.url}/api/pems/{path}",
            headers=sent,
            timeout=timeout,
            allow_redirects=False,
            **request,
        )

    def get(self, pfa_id):
        return self.call("GET", f"pfa/{pfa_id}")

    def put(self, pfa_id, changes, version, key=None, timeout=5, also=None):
        body = self.item(pfa_id, changes, version) | (also or {})
        headers = {"Idempotency-Key": key or str(uuid4())}
        return self.call("PUT", f"pfa/{pfa_id}", json=body, headers=headers, timeout=timeout)

    def delete(self, pfa_id, version, key=None):
        query = {"version": version, "modifiedBy": "j.doe", "changeReason": "gone"}
        return self.call("DELETE", f"pfa/{pfa_id}", params=query, headers={"Idempotency-Key": key or str(uuid4())})

    def batch(self, items):
        return self.call("POST", "pfa/batch", json={"items": items})

    def item(self, pfa_id, changes, version):
        return {
            "pfaId": pfa_id,
            "organizationCode": self.organization,
            "changes": changes,
            "version": version,
            "modifiedBy": "j.doe",
            "changeReason": "test",
        }

    def update(self, record, changes):
        own = {"operation": "UPDATE", "idempotencyKey": str(uuid4())}
        return self.item(record["pfaId"], changes, record["version"]) | own


@pytest.fixture(scope="module")
def running():
    with SandboxProcess(records=300, rate_limit=0) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running):
    running.reset()
    running.settings(rate_limit=0, latency_ms=0)
    return running


@pytest.fixture
def pems(sandbox):
    return Client(sandbox)


def put_one(pems, **options):
    return pems.put(ONE["pfaId"], {"areaSilo": "Moved"}, ONE["version"], **options)


def versions_of(sandbox, record):
    return [entry["versionAfter"] for entry in sandbox.audit(record["pfaId"])]
