"""The sandbox keeps the `gateway` contract over real HTTP."""

from datetime import datetime, timedelta

import pytest

from deploy.sandbox.process import SandboxProcess
from tests.integration.sandbox_cast import ONE, RIO, THREE, TWO, Client, pems, put_one, running, sandbox

__all__ = ["pems", "running", "sandbox"]  # fixtures
pytestmark = pytest.mark.process


class TestDoor:
    def test_health_needs_the_same_headers_as_every_call(self, pems):
        assert pems.call("GET", "health").json() == {"status": "ok"}
        assert pems.call("GET", "health", headers={"Authorization": None}).json() == {"error": "UNAUTHORIZED"}
        assert pems.call("GET", "health", headers={"tenant": None}).status_code == 400
        assert pems.call("GET", "health", headers={"organization": None}).status_code == 400

    def test_only_the_configured_credentials_open(self):
        with SandboxProcess(records=1, user="u", password="p", api_key="k") as sandbox:
            pems = Client(sandbox)
            assert pems.call("GET", "health").status_code == 200
            assert pems.call("GET", "health", headers={"X-API-Key": "other"}).status_code == 401
            basic = {"X-API-Key": None, "Authorization": "Basic dTpw"}
            assert pems.call("GET", "health", headers=basic).status_code == 200
            for wrong in ("Basic dTpx", "Basic %%%", "Bearer dTpw", ""):
                assert pems.call("GET", "health", headers={**basic, "Authorization": wrong}).status_code == 401

    def test_a_wrong_address_has_no_json_error(self, pems):
        for method, path, status in (
            ("GET", "nowhere", 404),
            ("PATCH", "pfa/x", 404),
            ("GET", "pfa/", 404),
            ("PUT", "pfa", 405),
        ):
            answer = pems.call(method, path)
            assert (answer.status_code, "json" in answer.headers["Content-Type"]) == (status, False)

    def test_a_body_over_one_megabyte_is_413(self, pems):
        assert put_one(pems, also={"padding": "x" * (1024 * 1024)}).status_code == 413
        chunked = (b"x" * 65536 for _ in range(20))
        assert pems.call("PUT", f"pfa/{ONE['pfaId']}", data=chunked).status_code == 413

    def test_a_body_just_under_one_megabyte_is_read(self, pems):
        assert put_one(pems, also={"padding": "x" * (1024 * 1024 - 1000)}).status_code == 400


class TestReading:
    def test_a_record_is_shown_to_its_organization_only(self, pems, sandbox):
        assert pems.get(ONE["pfaId"]).json() == ONE
        for client in (Client(sandbox, "HOLNG"), Client(sandbox, "RI"), Client(sandbox, "rio")):
            answer = client.get(ONE["pfaId"])
            assert (answer.status_code, answer.json()) == (404, {"error": "NOT_FOUND"})

    def test_pages_follow_each_other_without_gap(self, pems):
        seen, cursor = [], None
        while True:
            query = {"organizationCode": "RIO", "limit": 40, **({"cursor": cursor} if cursor else {})}
            page = pems.call("GET", "pfa", params=query).json()
            seen += page["items"]
            assert page["total"] == len(RIO)
            cursor = page["nextCursor"]
            if cursor is None:
                break
        assert seen == sorted(RIO, key=lambda record: (record["updatedAt"], record["pfaId"]))

    def test_updated_since_is_inclusive(self, pems, sandbox):
        put_one(pems)
        changed_at = sandbox.audit()[0]["at"]
        later = (datetime.fromisoformat(changed_at) + timedelta(microseconds=1)).isoformat()
        found = [pems.call("GET", "pfa", params={"updatedSince": since}).json() for since in (changed_at, later)]
        assert [page["total"] for page in found] == [1, 0]
        assert found[0]["items"][0]["updatedAt"] == changed_at <= found[0]["serverTime"]

    def test_a_record_changed_between_pages_comes_again_at_the_end(self, pems, sandbox):
        first = pems.call("GET", "pfa", params={"limit": len(RIO) - 1}).json()
        sandbox.edit(first["items"][0]["pfaId"], {"areaSilo": "Later"})
        rest = pems.call("GET", "pfa", params={"limit": 100, "cursor": first["nextCursor"]}).json()
        assert [item["areaSilo"] for item in rest["items"]][-1] == "Later"

    @pytest.mark.parametrize("query", ["limit=0", "limit=x", "cursor=!", "updatedSince=then", "organizationCode=RIO2"])
    def test_a_query_that_makes_no_sense_is_400(self, pems, query):
        answer = pems.call("GET", f"pfa?{query}")
        assert (answer.status_code, list(answer.json()["fieldErrors"])) == (400, [query.partition("=")[0]])


class TestWriting:
    def test_an_update_grows_the_version_by_one(self, pems, sandbox):
        answer = put_one(pems).json()
        assert (answer["success"], answer["newVersion"]) == (True, ONE["version"] + 1)
        assert answer["record"] == pems.get(ONE["pfaId"]).json()
        own = {
            "areaSilo": "Moved",
            "version": ONE["version"] + 1,
            "updatedBy": "j.doe",
            "updatedAt": answer["updatedAt"],
        }
        assert answer["record"] == ONE | own

    def test_a_stale_version_is_409_and_counted(self, pems, sandbox):
        sandbox.edit(ONE["pfaId"], {"areaSilo": "Theirs", "model": "Other"})
        answer = put_one(pems)
        assert answer.status_code == 409
        said = {
            name: answer.json()[name] for name in ("error", "currentVersion", "expectedVersion", "conflictingFields")
        }
        current = ONE["version"] + 1
        wanted = {"currentVersion": current, "expectedVersion": ONE["version"], "conflictingFields": ["areaSilo"]}
        assert said == {"error": "VERSION_CONFLICT", **wanted}
        assert sandbox.stats()["writes"]["rejectedStale"] == 1

    def test_null_clears_and_a_moment_is_cut_to_its_day(self, pems):
        changes = {"contract": None, "monthlyRate": None, "originalEnd": "2029-01-20T23:30:00Z"}
        record = pems.put(ONE["pfaId"], changes, ONE["version"]).json()["record"]
        assert [record[name] for name in changes] == [None, None, "2029-01-20"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("colour", "red"),
            ("version", 9),
            ("pfaId", "PFA-1"),
            ("monthlyRate", "5500"),
            ("monthlyRate", True),
            ("monthlyRate", 10**12),
            ("forecastEnd", "2026-02-30"),
            ("forecastEnd", "20260201"),
            ("forecastEnd", 20260201),
            ("isActualized", None),
            ("isActualized", "true"),
            ("source", "Lease"),
            ("dor", None),
            ("description", 7),
            ("description", "x" * 501),
        ],
    )
    def test_a_wrong_value_is_400_and_named(self, pems, sandbox, field, value):
        answer = pems.put(ONE["pfaId"], {field: value, "areaSilo": "fine"}, ONE["version"])
        assert (answer.status_code, list(answer.json()["fieldErrors"])) == (400, [field])
        assert sandbox.audit() == []

    @pytest.mark.parametrize(
        ("field", "changes"),
        [
            ("forecastEnd", {"forecastStart": "2027-05-02", "forecastEnd": "2027-05-01"}),
            ("forecastEnd", {"forecastEnd": "2020-01-01"}),
            ("originalEnd", {"originalStart": "2035-01-01"}),
            ("actualEnd", {"actualStart": "2026-05-02", "actualEnd": "2026-05-01"}),
            ("monthlyRate", {"monthlyRate": -0.01}),
            ("purchasePrice", {"purchasePrice": -1}),
        ],
    )
    def test_a_broken_rule_is_422(self, pems, field, changes):
        answer = pems.put(ONE["pfaId"], changes, ONE["version"])
        assert (answer.status_code, answer.json()["error"], answer.json()["field"]) == (422, "BUSINESS_RULE", field)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"version": None},
            {"version": "1"},
            {"modifiedBy": ""},
            {"changes": {}},
            {"changes": []},
            {"pfaId": "PFA-1"},
            {"more": 1},
            {"organizationCode": "HOLNG"},
        ],
    )
    def test_an_incomplete_request_is_400(self, pems, wrong):
        answer = put_one(pems, also=wrong)
        assert (answer.status_code, list(answer.json()["fieldErrors"])) == (400, list(wrong))

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":NaN}', b"\xff\xfe", b"[" * 100_000])
    def test_what_is_not_a_json_object_is_400(self, pems, body):
        answer = pems.call("PUT", f"pfa/{ONE['pfaId']}", data=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")

    def test_delete_discontinues_at_its_version(self, pems):
        assert pems.delete(ONE["pfaId"], ONE["version"] + 1).status_code == 409
        answer = pems.delete(ONE["pfaId"], ONE["version"])
        assert (answer.status_code, answer.json()["record"]["isDiscontinued"]) == (200, True)
        assert pems.call("DELETE", f"pfa/{ONE['pfaId']}", params={"modifiedBy": "j"}).status_code == 400
        assert pems.delete("PFA-1", 1).json() == {"error": "NOT_FOUND"}

    @pytest.mark.parametrize("changes", [{"areaSilo": "A"}, {"colour": "red"}, {"monthlyRate": -1}, {"model": "stale"}])
    def test_a_key_repeats_the_first_answer(self, pems, sandbox, changes):
        version = ONE["version"] + ("model" in changes)
        first, again = (pems.put(ONE["pfaId"], changes, version, key="k") for _ in range(2))
        sandbox.edit(ONE["pfaId"], {"areaSilo": "B"})
        third = pems.put(ONE["pfaId"], changes, version, key="k")
        assert (
            (first.status_code, first.content)
            == (again.status_code, again.content)
            == (third.status_code, third.content)
        )
        assert sandbox.stats()["writes"]["repeatedAnswers"] == 2
        assert sandbox.stats()["keys"]["reusedForAnotherRequest"] == []

    def test_a_key_used_for_another_request_is_reported(self, pems, sandbox):
        put_one(pems, key="k")
        pems.put(TWO["pfaId"], {"areaSilo": "A"}, TWO["version"], key="k")
        assert sandbox.stats()["keys"] == {"distinct": 1, "appliedMoreThanOnce": [], "reusedForAnotherRequest": ["k"]}


class TestBatch:
    def test_items_are_answered_one_by_one_in_the_order_sent(self, pems, sandbox):
        stale = pems.update(TWO, {"areaSilo": "A"}) | {"version": 99}
        gone = {key: value for key, value in pems.update(THREE, {}).items() if key != "changes"} | {
            "operation": "DELETE"
        }
        items = [pems.update(ONE, {"areaSilo": "A"}), stale, gone, pems.update(TWO, {"monthlyRate": -1})]
        items += [pems.update(TWO, {"colour": 1}), pems.update(TWO, {"model": "M"}) | {"pfaId": "PFA-1"}]
        results = pems.batch(items).json()["results"]
        assert [result["status"] for result in results] == [200, 409, 200, 422, 400, 404]
        assert [result["pfaId"] for result in results] == [item["pfaId"] for item in items]
        assert results[2]["record"]["isDiscontinued"]
        assert len(sandbox.audit()) == 2

    @pytest.mark.parametrize("count", [0, 101])
    def test_a_batch_has_1_to_100_items(self, pems, count):
        assert pems.batch([pems.update(ONE, {"areaSilo": "A"})] * count).status_code == 400

    def test_a_batch_of_two_organizations_changes_nothing(self, pems, sandbox):
        items = [
            pems.update(ONE, {"areaSilo": "A"}),
            pems.update(TWO, {"areaSilo": "A"}) | {"organizationCode": "HOLNG"},
        ]
        assert pems.batch(items).status_code == 400
        assert sandbox.audit() == []

    def test_a_whole_batch_sent_again_applies_nothing_twice(self, pems, sandbox):
        items = [pems.update(record, {"areaSilo": "A"}) for record in RIO[:100]]
        assert pems.batch(items).json() == pems.batch(items).json()
        assert sandbox.stats()["writes"]["applied"] == sandbox.stats()["keys"]["distinct"] == 100
