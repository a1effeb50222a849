import pytest

from deploy.sandbox.faultplan import ITEM_KINDS, REQUEST_KINDS, Plan, changed_plan
from deploy.sandbox.faults import Faults

IDS = [f"PFA-{number}" for number in range(2000)]


def faults(**plan):
    faults = Faults()
    faults.follow(changed_plan(Plan(), plan, now=0.0))
    return faults


def kinds(faults, operation="PUT", ids=IDS):
    drawn = [faults.for_request(operation, (pfa_id,), 0.0) for pfa_id in ids]
    return [fault.kind if fault else None for fault in drawn]


def test_draws_depend_on_seed_record_and_count_only():
    rates = {"status_503": 0.1, "lost_reply": 0.1}
    forward = dict(zip(IDS, kinds(faults(rates=rates, seed=3)), strict=True))
    backward = dict(zip(IDS[::-1], kinds(faults(rates=rates, seed=3), ids=IDS[::-1]), strict=True))
    assert forward == backward
    assert forward != dict(zip(IDS, kinds(faults(rates=rates, seed=4)), strict=True))


def test_rates_are_met():
    drawn = kinds(faults(rates={"status_503": 0.1, "lost_reply": 0.05}))
    assert abs(drawn.count("status_503") - 200) < 50
    assert abs(drawn.count("lost_reply") - 100) < 40


def test_server_errors_drawn_by_rate_are_applied_half_the_time():
    plan = faults(rates={"status_500": 1})
    applied = [plan.for_request("PUT", (pfa_id,), 0.0).applied for pfa_id in IDS]
    assert abs(sum(applied) - 1000) < 100


def test_a_kind_strikes_only_where_it_makes_sense():
    assert set(kinds(faults(rates={"late_apply": 1}), "GET")) == {None}
    assert set(kinds(faults(rates={"batch_partial": 1}), "PUT")) == {None}
    assert set(kinds(faults(rates={"slow": 1}, operations=["PUT"]), "GET")) == {None}
    assert faults(rates={"item_423": 1}).for_item("BATCH", "PFA-1", 0.0).kind == "item_423"
    assert faults(rates={"item_423": 1}).for_request("BATCH", ("PFA-1",), 0.0) is None


def test_a_line_of_the_script_is_used_up():
    plan = faults(script=[{"kind": "slow", "pfaId": "PFA-1", "times": 2}, {"kind": "garbage", "operation": "GET"}])
    assert kinds(plan, ids=["PFA-2", "PFA-1", "PFA-1", "PFA-1"]) == [None, "slow", "slow", None]
    assert [line["kind"] for line in plan.report(0.0)["script"]] == ["garbage"]


def test_a_line_may_strike_for_ever():
    assert set(kinds(faults(script=[{"kind": "slow", "times": None}]))) == {"slow"}


def test_a_batch_is_struck_for_any_of_its_records():
    plan = faults(script=[{"kind": "lost_reply", "pfaId": "PFA-2"}])
    assert plan.for_request("BATCH", ("PFA-1",), 0.0) is None
    assert plan.for_request("BATCH", ("PFA-1", "PFA-2"), 0.0).kind == "lost_reply"


def test_parts_not_named_stay():
    plan = changed_plan(Plan(), {"rates": {"slow": 0.5}, "switches": ["idempotency_ignored"]}, 0.0)
    plan = changed_plan(plan, {"script": [{"kind": "slow"}], "rates": {"batch_absent": 1}}, 0.0)
    assert plan.rates == ()
    assert plan.switches == {"idempotency_ignored", "batch_absent"}
    assert changed_plan(plan, {"rates": {"batch_absent": 0}}, 0.0).switches == {"idempotency_ignored"}


def test_an_outage_lies_between_its_ends():
    plan = changed_plan(Plan(), {"outage": {"from": 5, "to": 10}}, now=100.0)
    strikes = Faults()
    strikes.follow(plan)
    assert [strikes.outage("PUT", at) is not None for at in (104.9, 105.0, 109.9, 110.0)] == [False, True, True, False]


@pytest.mark.parametrize("kind", [*REQUEST_KINDS, *ITEM_KINDS])
def test_a_plan_is_shown_as_it_was_given(kind):
    given = {"kind": kind, "pfaId": None, "operation": "ANY", "times": 3}
    assert faults(script=[given]).report(0.0)["script"] == [given]
