"""When a worker counts as deaf: waiting, room and silence, look after look."""

from __future__ import annotations

import pytest

from config.watchdog import Evidence, Look

WRITE = "pems.write"


def looks(
    seconds: float, *, pause: float = 1.0, waiting: int = 1, free: int = 1, since: float = 0.0
) -> list[Look | None]:
    count = int(seconds / pause) + 1
    return [Look(since + number * pause, {WRITE: waiting}, {WRITE: 7}, free) for number in range(count)]


def found(*each: Look | None) -> str | None:
    evidence = Evidence(seconds=30, longest_gap=3)
    return next((queue for look in each if (queue := evidence.deaf_queue(look))), None)


def test_deaf_is_a_queue_that_waits_unheard_for_all_the_seconds():
    assert found(*looks(29)) is None
    assert found(*looks(32)) == WRITE


@pytest.mark.parametrize(
    "between",
    [
        Look(16, {WRITE: 0}, {WRITE: 7}, 1),  # others emptied the queue
        Look(16, {WRITE: 5}, {WRITE: 8}, 1),  # it heard one
        Look(16, {WRITE: 5}, {WRITE: 7}, 0),  # every slot was busy
        None,  # Redis was away, or it was connecting
    ],
)
def test_anything_else_begins_anew(between):
    after = looks(28, since=17)
    if between is not None and between.received[WRITE] == 8:
        after = [Look(look.at, look.waiting, between.received, look.free) for look in after if look]
    assert found(*looks(15), between, *after) is None


def test_a_process_that_was_stopped_needs_fresh_evidence():
    stopped = [*looks(20), *looks(28, since=80)]
    assert found(*stopped) is None
    assert found(*stopped, *looks(5, since=109)) == WRITE


def test_few_looks_are_no_evidence():
    evidence = Evidence(seconds=3, longest_gap=3)
    assert [evidence.deaf_queue(look) for look in looks(8, pause=2)] == [None] * 5


def test_each_queue_is_judged_alone():
    """A control worker that hears one of its queues may be deaf to another."""
    evidence = Evidence(seconds=30, longest_gap=3)
    each = [
        Look(at, {"pems.dispatch": 4, "pems.read": 1}, {"pems.dispatch": 3, "pems.read": at}, 6) for at in range(40)
    ]
    verdicts = [evidence.deaf_queue(look) for look in each]
    assert set(verdicts) == {None, "pems.dispatch"}
