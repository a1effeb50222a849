"""The sandbox answers its controls, counts, survives kill -9, and starts and stops as a process."""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
import time
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy.sandbox.process import SandboxError, SandboxProcess
from tests.integration.sandbox_cast import ONE, RIO, THREE, TWO, Client, pems, put_one, running, sandbox, versions_of

__all__ = ["pems", "running", "sandbox"]  # fixtures
pytestmark = pytest.mark.process


class TestControls:
    def test_an_edit_is_another_users_change_free_of_rules(self, pems, sandbox):
        edited = sandbox.edit(ONE["pfaId"], {"forecastEnd": "2000-01-01"}, modified_by="m.silva", bump=2)
        assert (edited["version"], edited["record"]["updatedBy"]) == (ONE["version"] + 2, "m.silva")
        assert pems.get(ONE["pfaId"]).json() == edited["record"]

    def test_edits_come_in_lists_and_fail_alone(self, sandbox):
        edits = [{"pfaId": ONE["pfaId"], "changes": {"model": "M"}}, {"pfaId": "PFA-1", "changes": {}}]
        done, failed = sandbox.edit_many([*edits, {"pfaId": TWO["pfaId"], "changes": {"colour": 1}}])[:2]
        assert (done["version"], failed) == (
            ONE["version"] + 1,
            {"pfaId": "PFA-1", "error": "there is no record PFA-1"},
        )

    def test_a_removed_record_is_gone_for_every_call(self, pems, sandbox):
        sandbox.remove(ONE["pfaId"])
        assert pems.get(ONE["pfaId"]).json() == put_one(pems).json() == {"error": "NOT_FOUND"}
        assert pems.call("GET", "pfa").json()["total"] == len(RIO) - 1

    def test_the_audit_is_paged_and_filtered(self, pems, sandbox):
        for record in (ONE, TWO, ONE):
            sandbox.edit(record["pfaId"], {"model": "M"})
        page = sandbox.control("audit?limit=2")
        assert ([entry["seq"] for entry in page["items"]], page["nextAfter"], page["total"]) == ([1, 2], 2, 3)
        assert [entry["seq"] for entry in sandbox.control("audit?after=2")["items"]] == [3]
        assert [entry["seq"] for entry in sandbox.audit(ONE["pfaId"])] == [1, 3]

    def test_controls_do_not_count_as_requests(self, pems, sandbox):
        pems.get(ONE["pfaId"])
        stats = sandbox.stats()
        assert stats["requests"]["total"] == 1
        assert (stats["requests"]["byMethod"], stats["requests"]["byStatus"]) == ({"GET": 1}, {"200": 1})

    def test_latency_is_added_to_each_request(self, pems, sandbox):
        sandbox.settings(latency_ms=150)
        started = time.perf_counter()
        pems.get(ONE["pfaId"])
        assert time.perf_counter() - started >= 0.15

    def test_changes_are_announced_signed_and_until_accepted(self, pems, sandbox):
        with Listener(refuses=1) as listener:
            sandbox.webhook(listener.url, "s3cret")
            put_one(pems)
            listener.wait_for(2)
        sandbox.control("webhook", method="DELETE")
        (_, first), (headers, body) = listener.received
        signed = hmac.new(b"s3cret", headers["X-PEMS-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
        assert headers["X-PEMS-Signature"] == f"sha256={signed}"
        event = json.loads(body)
        assert (event["event"], event["organizationCode"], event["pfaIds"]) == ("pfa.changed", "RIO", [ONE["pfaId"]])
        assert json.loads(first)["id"] == event["id"]


class Listener:
    """A subscriber that refuses the first deliveries."""

    def __init__(self, refuses):
        self.received: list[tuple[Message, bytes]] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.received.append((self.headers, body))
                self.send_response(202 if len(listener.received) > refuses else 500)
                self.end_headers()

            def log_message(self, *args):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, count):
        deadline = time.monotonic() + 5
        while len(self.received) < count and time.monotonic() < deadline:
            time.sleep(0.02)


class TestLimit:
    def test_the_window_slides(self, pems, sandbox):
        sandbox.settings(rate_limit=10)
        started = time.monotonic()
        statuses = [pems.call("GET", "health").status_code for _ in range(10)]
        time.sleep(max(0.0, started + 0.7 - time.monotonic()))
        refused = pems.call("GET", "health")
        assert statuses == [200] * 10
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        time.sleep(1.0)
        assert pems.call("GET", "health").status_code == 200
        stats = sandbox.stats()
        assert (stats["peakRequestsPerSecond"], stats["violations"], stats["limit"]) == (11, 1, 10)
        assert stats["lastViolations"][0]["requestsInWindow"] == 11

    def test_refused_strangers_count_too(self, pems, sandbox):
        sandbox.settings(rate_limit=2)
        statuses = [pems.call("GET", "nowhere", headers={"Authorization": None}).status_code for _ in range(3)]
        assert statuses == [401, 401, 429]

    def test_without_a_limit_the_peak_is_still_counted(self, pems, sandbox):
        assert [pems.call("GET", "health").status_code for _ in range(15)] == [200] * 15
        assert sandbox.stats()["peakRequestsPerSecond"] == 15
        after = sandbox.reset_stats()
        assert (after["peakRequestsPerSecond"], after["requests"]["total"], after["violations"]) == (0, 0, 0)


class TestRestart:
    def test_kill_9_loses_nothing_that_was_answered(self, tmp_path):
        with SandboxProcess(records=300, rate_limit=0, state=tmp_path / "state.jsonl") as sandbox:
            pems = Client(sandbox)
            first = put_one(pems, key="k")
            stale = put_one(pems, key="stale")
            pems.batch([pems.update(TWO, {"areaSilo": "A"}), pems.update(THREE, {"monthlyRate": -1})])
            sandbox.edit(TWO["pfaId"], {"model": "M"}, bump=3)
            sandbox.remove(THREE["pfaId"])
            before = (self.counts(sandbox), sandbox.audit(), pems.call("GET", "pfa").json()["items"])
            sandbox.restart()
            assert (self.counts(sandbox, forget=1), sandbox.audit(), pems.call("GET", "pfa").json()["items"]) == before
            assert put_one(pems, key="k").content == first.content
            assert put_one(pems, key="stale").content == stale.content
            assert sandbox.stats()["writes"]["applied"] == 2

    def counts(self, sandbox, forget=0):
        """`forget`: the list call made after the first count."""
        stats = sandbox.stats()
        requests_seen = stats["requests"]["total"] - forget
        return stats["writes"], stats["keys"], stats["records"], requests_seen, stats["peakRequestsPerSecond"] - forget

    def test_a_torn_last_line_is_dropped(self, tmp_path):
        state = tmp_path / "state.jsonl"
        with SandboxProcess(records=300, rate_limit=0, state=state) as sandbox:
            put_one(Client(sandbox))
            sandbox.kill()
            with state.open("ab") as file:
                file.write(b'{"audit":{"seq":2,"pfaId":"PFA')
            sandbox.start()
            assert versions_of(sandbox, ONE) == [ONE["version"] + 1]
            sandbox.edit(ONE["pfaId"], {"model": "M"})
            sandbox.restart()
            assert versions_of(sandbox, ONE) == [ONE["version"] + 1, ONE["version"] + 2]

    def test_other_data_start_over(self, tmp_path):
        state = tmp_path / "state.jsonl"
        for seed in (1, 2):
            with SandboxProcess(records=50, seed=seed, state=state) as sandbox:
                assert sandbox.audit() == []
                sandbox.edit("PFA-10001", {"model": "M"})

    def test_a_reset_is_not_undone_by_a_restart(self, tmp_path):
        with SandboxProcess(records=50, state=tmp_path / "state.jsonl") as sandbox:
            sandbox.edit("PFA-10001", {"model": "M"})
            sandbox.reset()
            sandbox.restart()
            assert sandbox.audit() == []

    def test_a_damaged_or_shared_file_is_refused_in_one_sentence(self, tmp_path):
        state = tmp_path / "state.jsonl"
        with SandboxProcess(records=5, state=state), pytest.raises(SandboxError, match="in use by another sandbox"):
            SandboxProcess(records=5, state=state).start()
        with state.open("ab") as file:
            file.write(b"not json\n")
        with pytest.raises(SandboxError, match=r"line \d+ of the state file .* is damaged"):
            SandboxProcess(records=5, state=state).start()


class TestCommand:
    def test_a_taken_port_is_one_sentence_and_exit_2(self, sandbox):
        for command in (["-m", "deploy.sandbox"], ["manage.py", "pems_sandbox"]):
            ended = subprocess.run(
                [sys.executable, *command, "--port", str(sandbox.port)], capture_output=True, text=True
            )
            assert ended.returncode == 2
            assert f"cannot listen on 127.0.0.1:{sandbox.port}" in ended.stderr
            assert len(ended.stderr.splitlines()) == 1

    def test_it_starts_within_a_moment_and_without_django(self):
        started = time.perf_counter()
        with SandboxProcess() as sandbox:
            assert time.perf_counter() - started < 1.5
            with open(f"/proc/{sandbox.pid}/maps") as maps:
                assert "psycopg" not in maps.read()
            assert sandbox.stats()["records"]["total"] == 8807
        loaded = "import sys, deploy.sandbox.cli; sys.exit('django' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", loaded]).returncode == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_cleanly(self, number):
        command = [sys.executable, "-m", "deploy.sandbox", "--port", "0", "--records", "5"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline().startswith(b"PEMS sandbox on http://127.0.0.1:")
            os.kill(process.pid, number)
            assert (process.wait(5), process.stderr.read()) == (0, b"")
