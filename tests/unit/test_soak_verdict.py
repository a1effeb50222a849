"""What the soak takes for growth, and what it does not."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from tests.bench.outage import ideal_seconds
from tests.soak.__main__ import wanted_hours
from tests.soak.sampling import memory_kb
from tests.soak.verdict import JUDGED_ROLES, growth, is_good, slope, thinned

ROWS = {"live": 20_000, "dead": 100, "bytes": 5_000_000, "indexBytes": 1_000_000}
SMALL = {"live": 3, "dead": 40, "bytes": 40_000, "indexBytes": 50_000}


def samples(count: int = 240, **changing: Any) -> list[dict[str, Any]]:
    """A quiet 20 minutes with noise; `changing`: how a figure depends on the minutes since the start."""
    noise = random.Random(1)
    return [_sample(number * 5.0, noise, changing) for number in range(count)]


def _sample(at: float, noise: random.Random, changing: dict[str, Any]) -> dict[str, Any]:
    def now(name: str, otherwise: float) -> float:
        return changing[name](at / 60) if name in changing else otherwise

    return {
        "at": at,
        "memoryMb": dict.fromkeys(JUDGED_ROLES, 100.0) | {"web": now("web", 100.0) + noise.uniform(-1, 1)},
        "files": dict.fromkeys(JUDGED_ROLES, 40) | {"beat": now("files", 40), "postgres": 1000 + at},
        "processes": dict.fromkeys(JUDGED_ROLES, 1),
        "connections": now("connections", 20),
        "redisClients": 70,
        "lagSeconds": now("lag", 0.1),
        "tables": {
            "pems_sync_modification": ROWS | {"dead": now("dead", 100), "bytes": 5_000_000 + at * 10_000},
            "pems_sync_journalhead": SMALL | {"bytes": now("head", 40_000)},
        },
    }


def test_noise_warming_up_and_history_are_no_growth():
    found = growth(samples(web=lambda minutes: 100 + min(minutes, 8) * 5))
    assert found["grown"] == []
    assert abs(found["memoryGrowthMbPerHour"]["web"]) < 4


@pytest.mark.parametrize(
    ("what", "how", "told"),
    [
        ("web", lambda minutes: 100 + minutes, "memory of web"),
        ("files", lambda minutes: 40 + 2 * minutes, "open files of beat"),
        ("connections", lambda minutes: 20 + minutes, "connections"),
        ("lag", lambda minutes: minutes, "lagSeconds"),
        ("dead", lambda minutes: 10_000, "dead rows of pems_sync_modification"),
        ("head", lambda minutes: 40_000 + 200_000 * minutes, "size of pems_sync_journalhead"),
    ],
)
def test_what_grows_is_named(what: str, how: Any, told: str):
    grown = growth(samples(**{what: how}))["grown"]
    assert len(grown) == 1, grown
    assert grown[0].startswith(told)


def test_one_spike_is_no_growth_and_a_short_run_is_not_judged_by_it():
    assert growth(samples(web=lambda minutes: 900 if 17 < minutes < 18 else 100))["grown"] == []
    assert growth(samples(60, web=lambda minutes: 100 + 50 * minutes))["grown"] == []


def test_the_slope_is_that_of_most_pairs():
    assert slope([(x, 3 * x + (500 if x == 7 else 0)) for x in range(20)]) == 3
    assert slope([(1, 1)]) == 0
    assert len(thinned([(x, x) for x in range(5000)])) <= 200


def test_a_run_is_good_only_when_nothing_is_wrong():
    fine = {
        "edits": 10, "confirmed": 10, "lost": 0, "appliedTwice": 0, "limitViolations": 0, "differences": 0, "errors": [],
        "grown": [], "unverified": [], "lagP95Seconds": 0.2,
    }  # fmt: skip
    assert is_good(fine)
    wrong = [("lost", 1), ("appliedTwice", 1), ("limitViolations", 1), ("differences", 1), ("errors", ["x"]),
             ("grown", ["x"]), ("unverified", ["x"]), ("lagP95Seconds", 11.0), ("confirmed", 0), ("edits", 0)]  # fmt: skip
    for name, value in wrong:
        assert not is_good(fine | {name: value}), name


def test_hours_must_be_a_time_that_can_be_waited_for():
    assert wanted_hours("0.333") == 0.333
    for text in ("", "soon", "0", "-1", "nan", "10000"):
        with pytest.raises(ValueError, match="HOURS"):
            wanted_hours(text)


def test_memory_of_a_process_is_read_and_of_one_that_is_gone_is_nothing():
    assert memory_kb(os.getpid()) > 10_000
    assert memory_kb(2**22 + 1) == 0


def test_the_ideal_of_a_recovery_counts_the_slow_start():
    """10 requests a second: 2, 4, 8 and 16 requests in two seconds each, then the full pace, all with the margin of spacing."""
    assert ideal_seconds(2, 10) == pytest.approx(2.04, abs=0.1)
    assert ideal_seconds(300, 10) == pytest.approx(8 + (300 - 30 / 1.02) * 0.102)
