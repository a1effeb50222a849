"""The pace: measured in real time, with real Redis and several real processes (PROTOCOL.md, Pace; I11)."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pems_sync.client.pace import NoSlot, Pace, PaceUnavailableError, Slot
from pems_sync.store import redis_store

LIMIT = 20

_PROCESS = """
import json, sys, time, redis
from pems_sync.client.pace import Pace
store = redis.Redis.from_url(sys.argv[1])
pace = Pace(store, connection=sys.argv[2], requests_per_second=20)
ends, entered = time.monotonic() + float(sys.argv[3]), []
while time.monotonic() < ends:
    if pace.wait(inbound=sys.argv[4] == "inbound", patience_seconds=0.3):
        entered.append(time.clock_gettime(time.CLOCK_MONOTONIC))
print(json.dumps(entered))
"""


@pytest.fixture
def store() -> Iterator[redis.Redis]:
    redis_store().flushdb()
    yield redis_store()
    redis_store().flushdb()


@pytest.fixture
def pace(store: redis.Redis) -> Pace:
    warm(store, "one")
    return Pace(store, connection="one", requests_per_second=LIMIT)


def warm(store: redis.Redis, name: str) -> None:
    store.hset(f"pems-sync:pace:{name}", "next", "0")


def processes(number: int, *, name: str, seconds: float, kind: str = "write") -> list[subprocess.Popen[bytes]]:
    url = str(os.environ["REDIS_URL"])
    arguments = [sys.executable, "-c", _PROCESS, url, name, str(seconds), kind]
    return [subprocess.Popen(arguments, stdout=subprocess.PIPE) for _ in range(number)]


def arrivals(started: list[subprocess.Popen[bytes]]) -> list[float]:
    return sorted(at for each in started for at in json.loads(each.communicate(timeout=60)[0]))


def most_in_a_second(times: list[float]) -> int:
    """Of every half-open window [t, t+1)."""
    return max((sum(start <= at < start + 1 for at in times) for start in times), default=0)


def test_four_processes_share_one_limit_and_use_it(store):
    warm(store, "shared")
    times = arrivals(processes(4, name="shared", seconds=2.5))
    assert most_in_a_second(times) <= LIMIT
    used = (len(times) - 1) / (times[-1] - times[0])
    assert used > 0.4 * LIMIT, f"{used:.1f} of {LIMIT} a second"  # how much of it exactly is measured by tests/bench


def test_a_flush_of_redis_does_not_double_the_rate(store):
    warm(store, "flushed")
    started = processes(3, name="flushed", seconds=4.5)
    time.sleep(1.7)
    store.flushdb()
    times = arrivals(started)
    assert most_in_a_second(times) <= LIMIT
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert max(gaps) > 1.0, "a missing key is waited out"
    assert len(times) > LIMIT


def test_inbound_takes_its_share_and_costs_writes_no_more_than_that(store):
    warm(store, "mixed")
    writing = processes(2, name="mixed", seconds=3)
    reading = processes(1, name="mixed", seconds=3, kind="inbound")
    writes, reads = arrivals(writing), arrivals(reading)
    assert most_in_a_second(sorted(writes + reads)) <= LIMIT
    assert 3 <= len(reads) <= 3 * LIMIT * 0.2 + 2
    assert len(writes) / (writes[-1] - writes[0]) > 0.4 * LIMIT


def test_slots_are_spaced_a_little_wider_than_the_limit(pace):
    slots = [pace.reserve() for _ in range(5)]
    assert all(isinstance(slot, Slot) for slot in slots)
    gaps = {after.at - before.at for before, after in itertools.pairwise(slots)}
    assert gaps == {int(1_000_000 * 1.02 / LIMIT)}


def test_nothing_is_reserved_beyond_the_horizon_of_a_second(pace):
    slots = []
    while isinstance(slot := pace.reserve(), Slot):
        slots.append(slot)
    assert isinstance(slot, NoSlot)
    assert 1.0 < slot.seconds < 1.1
    assert all(each.in_seconds <= 1.0 for each in slots)
    assert 18 <= len(slots) <= 21


def test_a_slot_given_up_is_the_next_one_again(pace):
    slot = pace.reserve()
    again = pace.reserve(given_up=slot)
    assert again.at - slot.at < 1_000_000 * 0.02, "not a place further"


def test_a_slot_given_up_behind_which_others_reserved_is_not_returned(pace):
    slot, other = pace.reserve(), pace.reserve()
    assert pace.reserve(given_up=slot).at > other.at


def test_a_slot_that_was_missed_by_ten_milliseconds_is_not_entered(pace):
    slot = pace.reserve()
    time.sleep(slot.in_seconds + 0.015)
    assert not pace.enter(slot)


def test_a_slot_is_entered_at_its_time_and_not_before(pace):
    pace.reserve()
    pace.reserve()
    slot = pace.reserve()
    begun = time.monotonic()
    assert pace.enter(slot)
    assert time.monotonic() - begun > slot.in_seconds - 0.02


def test_a_missing_key_waits_the_horizon_and_a_second(store):
    new = Pace(store, connection="new", requests_per_second=LIMIT).reserve()
    assert isinstance(new, NoSlot)
    assert 1.9 < new.seconds <= 2.0


def test_a_slot_of_before_a_flush_is_not_entered(pace, store):
    slot = pace.reserve()
    store.flushdb()
    assert not pace.enter(slot)


def test_a_hold_is_honoured_by_everybody_also_in_slots_reserved_before(pace, store):
    slot = pace.reserve()
    Pace(store, connection="one", requests_per_second=LIMIT).hold(0.5)
    assert not pace.enter(slot)
    held = pace.reserve()
    assert held.in_seconds > 0.45
    pace.hold(0.1)
    assert pace.reserve().in_seconds > held.in_seconds, "a shorter hold never shortens a longer one"
    pace.hold(30)
    refused = pace.reserve()
    assert isinstance(refused, NoSlot)
    assert 29 < refused.seconds <= 30


def test_connections_do_not_share_a_pace(pace, store):
    pace.hold(30)
    warm(store, "two")
    assert isinstance(Pace(store, connection="two", requests_per_second=LIMIT).reserve(), Slot)


def test_a_limit_below_one_request_a_second_is_kept_too(store):
    warm(store, "slow")
    slow = Pace(store, connection="slow", requests_per_second=0.5)
    assert isinstance(slow.reserve(), Slot)
    second = slow.reserve()
    assert isinstance(second, NoSlot)
    assert 2.0 < second.seconds <= 2.1
    time.sleep(0.1)
    assert isinstance(slow.reserve(), Slot)


def test_patience_ends(pace):
    pace.hold(30)
    begun = time.monotonic()
    assert not pace.wait(patience_seconds=0.6)
    assert time.monotonic() - begun < 2


def test_waiting_gets_another_slot_when_one_was_missed(pace, monkeypatch):
    """The thread is held up between reserving and entering, as on a busy machine."""
    enter, tries = pace.enter, []

    def late(slot: Slot) -> bool:
        tries.append(slot)
        if len(tries) == 1:
            time.sleep(slot.in_seconds + 0.02)
        return enter(slot)

    monkeypatch.setattr(pace, "enter", late)
    assert pace.wait()
    assert len(tries) == 2


def test_without_redis_nothing_is_sent():
    gone = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))
    pace = Pace(gone, connection="gone", requests_per_second=LIMIT)
    for step in (pace.reserve, lambda: pace.enter(Slot(1, 0)), lambda: pace.hold(1), pace.wait):
        with pytest.raises(PaceUnavailableError, match="Redis"):
            step()


def test_threads_of_one_process_share_it_too(pace):
    times: list[float] = []

    def work() -> None:
        for _ in range(6):
            if pace.wait():
                times.append(time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 24
    assert most_in_a_second(sorted(times)) <= LIMIT
