"""The sandbox breaks the contract as told, and only then."""

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
import requests

from deploy.sandbox.process import SandboxError
from tests.integration.sandbox_cast import ONE, RIO, TWO, pems, put_one, running, sandbox, versions_of

__all__ = ["pems", "running", "sandbox"]  # fixtures
pytestmark = pytest.mark.process


class TestFaults:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, "INVALID_REQUEST"),
            (401, "UNAUTHORIZED"),
            (403, "FORBIDDEN"),
            (409, "VERSION_CONFLICT"),
            (422, "BUSINESS_RULE"),
            (423, "LOCKED"),
            (429, "RATE_LIMITED"),
            (500, "INTERNAL"),
            (503, "UNAVAILABLE"),
        ],
    )
    def test_a_status_is_injected_once_and_nothing_is_applied(self, pems, sandbox, status, error):
        sandbox.script(f"status_{status}", operation="PUT", retryAfter=7)
        answer = put_one(pems)
        assert (answer.status_code, answer.json()["error"]) == (status, error)
        assert answer.headers.get("Retry-After") == ("7" if status in (423, 429, 503) else None)
        assert sandbox.audit() == []
        assert put_one(pems).status_code == 200

    @pytest.mark.parametrize("kind", ["status_404_html", "status_502", "status_504"])
    def test_what_stands_between_answers_in_html(self, pems, sandbox, kind):
        sandbox.script(kind)
        answer = put_one(pems)
        assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (int(kind[7:10]), "text/html")

    @pytest.mark.parametrize("status", [500, 502, 504])
    def test_a_server_error_may_hide_an_applied_write(self, pems, sandbox, status):
        sandbox.script(f"status_{status}", applied=True)
        assert put_one(pems).status_code == status
        assert versions_of(sandbox, ONE) == [ONE["version"] + 1]

    def test_retry_after_as_a_date_or_left_out(self, pems, sandbox):
        sandbox.faults(
            script=[
                {"kind": "status_503", "retryAfter": 60, "asDate": True},
                {"kind": "status_503", "retryAfter": None},
            ]
        )
        wait = parsedate_to_datetime(put_one(pems).headers["Retry-After"]) - datetime.now(UTC)
        assert 55 < wait.total_seconds() <= 60
        assert "Retry-After" not in put_one(pems).headers

    @pytest.mark.parametrize(("kind", "applied"), [("lost_reply", 1), ("reset_before", 0), ("truncated", 1)])
    def test_a_connection_is_cut_after_or_before_applying(self, pems, sandbox, kind, applied):
        sandbox.script(kind)
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            put_one(pems, key="k")
        assert len(sandbox.audit()) == applied
        assert put_one(pems, key="k").status_code == 200
        assert len(sandbox.audit()) == 1

    def test_a_truncated_answer_announces_its_whole_length(self, pems, sandbox):
        whole = len(pems.get(ONE["pfaId"]).content)
        sandbox.script("truncated")
        answer = pems.call("GET", f"pfa/{ONE['pfaId']}", stream=True)
        assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(whole))
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match=f"{whole // 2} bytes read"):
            answer.json()

    def test_an_unreadable_body_hides_an_applied_write(self, pems, sandbox):
        sandbox.script("garbage")
        answer = put_one(pems)
        assert answer.status_code == 200
        with pytest.raises(requests.exceptions.JSONDecodeError):
            answer.json()
        assert len(sandbox.audit()) == 1

    def test_a_late_apply_lands_only_at_its_version(self, pems, sandbox):
        sandbox.faults(script=[{"kind": "late_apply", "seconds": 0.3, "times": 2}])
        for record in (ONE, TWO):
            with pytest.raises(requests.ConnectionError):
                pems.put(record["pfaId"], {"areaSilo": "Late"}, record["version"])
        sandbox.edit(TWO["pfaId"], {"model": "First"})
        assert versions_of(sandbox, ONE) == []
        time.sleep(0.6)
        assert versions_of(sandbox, ONE) == [ONE["version"] + 1]
        assert [entry["source"] for entry in sandbox.audit(TWO["pfaId"])] == ["sandbox"]

    def test_a_slow_write_is_applied_before_the_client_gives_up(self, pems, sandbox):
        sandbox.script("slow", seconds=1)
        with pytest.raises(requests.ReadTimeout):
            put_one(pems, timeout=0.3)
        assert len(sandbox.audit()) == 1

    def test_versions_jump(self, pems, sandbox):
        sandbox.script("version_jump", n=3)
        assert put_one(pems).json()["newVersion"] == ONE["version"] + 4

    def test_pems_adjusts_a_value(self, pems, sandbox):
        sandbox.script("adjust")
        record = pems.put(ONE["pfaId"], {"monthlyRate": 5503.17}, ONE["version"]).json()["record"]
        assert record["monthlyRate"] == 5510
        assert sandbox.audit()[0]["adjusted"] == {"monthlyRate": 5510}

    def test_an_answer_without_the_record(self, pems, sandbox):
        sandbox.script("no_record")
        assert "record" not in put_one(pems).json()

    def test_ignored_keys_are_answered_by_the_version(self, pems, sandbox):
        sandbox.faults(switches=["idempotency_ignored"])
        assert [put_one(pems, key="k").status_code for _ in range(2)] == [200, 409]
        assert sandbox.stats()["keys"]["appliedMoreThanOnce"] == []

    def test_an_absent_batch_leaves_single_writes(self, pems, sandbox):
        sandbox.faults(rates={"batch_absent": 1})
        answer = pems.batch([pems.update(ONE, {"areaSilo": "A"})])
        assert (answer.status_code, "json" in answer.headers["Content-Type"]) == (404, False)
        assert put_one(pems).status_code == 200

    def test_a_batch_breaks_off_after_a_prefix(self, pems, sandbox):
        sandbox.script("batch_partial", n=2)
        with pytest.raises(requests.ConnectionError):
            pems.batch([pems.update(record, {"areaSilo": "A"}) for record in RIO[:5]])
        assert [entry["pfaId"] for entry in sandbox.audit()] == [record["pfaId"] for record in RIO[:2]]

    def test_an_applied_item_is_missing_from_the_results(self, pems, sandbox):
        sandbox.script("batch_missing_result", pfaId=TWO["pfaId"])
        results = pems.batch([pems.update(record, {"areaSilo": "A"}) for record in (ONE, TWO)]).json()["results"]
        assert [result["pfaId"] for result in results] == [ONE["pfaId"]]
        assert len(sandbox.audit()) == 2

    @pytest.mark.parametrize("status", [400, 404, 409, 422, 423, 503])
    def test_one_item_fails_alone_or_in_a_batch(self, pems, sandbox, status):
        sandbox.script(f"item_{status}", pfaId=TWO["pfaId"], times=2)
        results = pems.batch([pems.update(record, {"areaSilo": "A"}) for record in (ONE, TWO)]).json()["results"]
        assert [result["status"] for result in results] == [200, status]
        assert pems.put(TWO["pfaId"], {"areaSilo": "A"}, TWO["version"]).status_code == status

    def test_a_script_waits_for_its_record_and_operation(self, pems, sandbox):
        sandbox.script("status_423", pfaId=TWO["pfaId"], operation="PUT", times=2)
        assert pems.get(TWO["pfaId"]).status_code == put_one(pems).status_code == 200
        statuses = [pems.put(TWO["pfaId"], {"areaSilo": "A"}, TWO["version"]).status_code for _ in range(3)]
        assert statuses == [423, 423, 200]
        assert sandbox.faults()["injected"] == {"status_423": 2}

    def test_rates_draw_the_same_whatever_the_order(self, pems, sandbox):
        drawn = []
        for records in (RIO[:60], RIO[59::-1]):
            sandbox.faults(rates={"status_503": 0.2, "status_423": {"probability": 0.1, "retryAfter": 2}}, seed=7)
            drawn.append({record["pfaId"]: pems.get(record["pfaId"]).status_code for record in records})
        assert drawn[0] == drawn[1]
        assert {200, 423, 503} == set(drawn[0].values())

    @pytest.mark.parametrize("mode", ["cut", "503"])
    def test_an_outage_strikes_every_call_and_ends(self, pems, sandbox, mode):
        sandbox.faults(outage={"from": 0, "to": 0.4, "mode": mode})
        if mode == "503":
            assert pems.call("GET", "health").status_code == put_one(pems).status_code == 503
        else:
            with pytest.raises(requests.ConnectionError):
                pems.call("GET", "health")
        time.sleep(0.45)
        assert put_one(pems).status_code == 200
        assert sandbox.stats()["requests"]["total"] == (3 if mode == "503" else 2)

    @pytest.mark.parametrize(
        "plan",
        [
            {"rates": {"status_418": 1}},
            {"rates": {"slow": 2}},
            {"rates": {"slow": 0.6, "garbage": 0.6}},
            {"script": [{}]},
            {"script": [{"kind": "slow", "times": 0}]},
            {"script": [{"kind": "slow", "operation": "POST"}]},
            {"script": [{"kind": [], "operation": []}]},
            {"script": [{"kind": "status_503", "retryAfter": "soon", "asDate": True}]},
            {"more": 1},
            {"outage": {"from": 1}},
            {"switches": ["slow"]},
            {"script": [{"kind": "slow", "delay": 1}]},
        ],
    )
    def test_a_plan_that_makes_no_sense_is_refused(self, sandbox, plan):
        with pytest.raises(SandboxError, match="400"):
            sandbox.faults(**plan)

    def test_cleared_faults_are_gone(self, pems, sandbox):
        sandbox.faults(rates={"status_500": 1}, switches=["batch_absent"], outage={"from": 0, "to": 60})
        plan = sandbox.clear_faults()
        assert (plan["rates"], plan["switches"], plan["outage"]) == ({}, [], None)
        assert put_one(pems).status_code == 200
