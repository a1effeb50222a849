"""How much of the limit is allowed (D11): halved, returned, begun slowly. Real Redis; time is moved in its hash."""

from __future__ import annotations

import bisect
import itertools
import random
import threading
import time
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pems_sync.client.pace import NoSlot, Pace, PaceUnavailableError, Slot
from pems_sync.client.pace_scripts import LEAST_SHARE
from pems_sync.store import redis_store

LIMIT = 20
KEY = "pems-sync:pace:share"
TIMES = ("lowered_at", "slow_from", "strike_1", "strike_2")


@pytest.fixture
def store() -> Iterator[redis.Redis]:
    redis_store().flushdb()
    yield redis_store()
    redis_store().flushdb()


@pytest.fixture
def pace(store: redis.Redis) -> Pace:
    store.hset(KEY, "next", "0")
    return Pace(store, connection="share", requests_per_second=LIMIT)


def later(store: redis.Redis, seconds: float) -> None:
    """As if so much time had passed since all that is noted."""
    for field in TIMES:
        noted = store.hget(KEY, field)
        if noted is not None:
            store.hset(KEY, field, f"{float(noted) - seconds * 1e6:.0f}")


def share(pace: Pace) -> float:
    return round(pace.rate() / LIMIT, 4)


def spacing(pace: Pace) -> float:
    """Between two slots given now, as a part of that of the full limit."""
    first, second = pace.reserve(), pace.reserve()
    if isinstance(second, NoSlot):
        return float("inf")
    assert isinstance(first, Slot)
    return round((second.at - first.at) / (1.02e6 / LIMIT), 2)


# ---------------------------------------------------------------- halved, and returned


def test_it_is_the_limit_until_something_happens(pace):
    assert share(pace) == 1
    assert spacing(pace) == 1


def test_it_is_halved_at_most_once_in_ten_seconds(pace, store):
    assert pace.lower()
    assert share(pace) == 0.5
    assert not pace.lower()
    later(store, 9.5)
    assert not pace.lower()
    assert share(pace) == 0.6
    later(store, 0.6)
    assert pace.lower()
    assert share(pace) == 0.35, "half of what it had come back to"


def test_slots_are_as_far_apart_as_the_present_pace_says(pace):
    pace.lower()
    assert spacing(pace) == 2


def test_a_tenth_of_the_limit_returns_every_five_seconds(pace, store):
    pace.lower()
    seen = []
    for _ in range(7):
        seen.append(share(pace))
        later(store, 5)
    assert seen == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0]
    assert spacing(pace) == 1


def test_it_never_gets_below_a_tenth(pace, store):
    pace.slow_start()
    assert pace.lower()
    assert share(pace) == LEAST_SHARE
    later(store, 5.1)
    assert share(pace) == 2 * LEAST_SHARE, "half of a tenth was a tenth as well"
    store.hset(KEY, "lowered", "-3")
    assert share(pace) == LEAST_SHARE


def test_a_clock_that_was_set_back_gives_nothing_back_early(pace, store):
    pace.lower()
    later(store, -3600)
    assert share(pace) == 0.5


def test_the_fleet_shares_it(pace, store):
    pace.lower()
    other = Pace(store, connection="share", requests_per_second=LIMIT)
    assert share(other) == 0.5
    assert not other.lower()
    assert share(Pace(store, connection="another", requests_per_second=LIMIT)) == 1


# ---------------------------------------------------------------- three times 503


def test_the_third_503_within_ten_seconds_lowers_it_and_two_do_not(pace, store):
    assert [pace.unavailable() for _ in range(2)] == [False, False]
    assert share(pace) == 1
    assert pace.unavailable()
    assert share(pace) == 0.5
    later(store, 11)
    assert [pace.unavailable() for _ in range(3)] == [False, False, True], "they are counted anew"


def test_503s_further_apart_do_not_add_up(pace, store):
    for _ in range(6):
        assert not pace.unavailable()
        later(store, 5.1)
    assert share(pace) == 1


# ---------------------------------------------------------------- slow start


def test_a_slow_start_doubles_every_two_seconds(pace, store):
    pace.slow_start()
    seen = []
    for _ in range(6):
        seen.append(share(pace))
        later(store, 2)
    assert seen == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_the_lesser_of_slow_start_and_halving_counts(pace, store):
    pace.lower()
    pace.slow_start()
    assert share(pace) == 0.1
    later(store, 4.1)
    assert share(pace) == 0.4
    later(store, 2)
    assert share(pace) == 0.6


def test_halving_in_a_slow_start_halves_what_it_had_come_to(pace, store):
    pace.slow_start()
    later(store, 4.1)
    pace.lower()
    later(store, 4)
    assert share(pace) == 0.2, "the slow start is over, the halving is not"


# ---------------------------------------------------------------- lost


def test_a_flush_loses_the_share_and_waits_two_seconds(pace, store):
    pace.lower()
    store.flushdb()
    assert share(pace) == 1
    slot = pace.reserve()
    assert isinstance(slot, NoSlot)
    assert 1.9 < slot.seconds <= 2.0


@pytest.mark.parametrize("step", ["lower", "unavailable", "slow_start", "rate"])
def test_without_redis_it_cannot_be_told(step):
    gone = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))
    with pytest.raises(PaceUnavailableError, match="Redis"):
        getattr(Pace(gone, connection="gone", requests_per_second=LIMIT), step)()


# ---------------------------------------------------------------- I11, whatever happens


@pytest.mark.parametrize("seed", [1, 2])
def test_no_second_ever_sees_more_than_the_limit(store, seed):
    """Several workers reserve, give up, miss, read and write, while the pace is halved, begun slowly and given back."""
    limit, entered = 50, list[int]()
    store.hset(KEY, "next", "0")
    pace = Pace(store, connection="share", requests_per_second=limit)
    ends = time.monotonic() + 1.2
    threads = [
        threading.Thread(target=work, args=(pace, random.Random(seed * 10 + n), ends, entered)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    disturb(pace, store, random.Random(seed), ends)
    for thread in threads:
        thread.join()
    times = sorted(entered)
    assert len(times) >= 5
    assert max(bisect.bisect_left(times, at + 1_000_000) - index for index, at in enumerate(times)) <= limit
    nearest = min(after - before for before, after in itertools.pairwise(times))
    assert nearest >= int(1.02e6 / limit), "stronger: no two are nearer than the full limit allows"


def work(pace: Pace, chance: random.Random, ends: float, entered: list[int]) -> None:
    """Each slot counts at the time it was given for: that is when bytes may leave, whatever this machine is busy with."""
    given_up: Slot | None = None
    while time.monotonic() < ends:
        slot = pace.reserve(given_up=given_up, inbound=chance.random() < 0.3, lead_seconds=chance.choice([0.005, 0.03]))
        given_up = None
        if isinstance(slot, NoSlot):
            time.sleep(min(slot.seconds, 0.02))
        elif chance.random() < 0.4:
            given_up = slot  # not used after all; meanwhile others may have reserved behind it
            time.sleep(chance.uniform(0, 0.05))
        elif pace.enter(slot):
            entered.append(slot.at)


def disturb(pace: Pace, store: redis.Redis, chance: random.Random, ends: float) -> None:
    """Half of the time all of the limit is allowed."""
    while time.monotonic() < ends:
        chance.choice([pace.lower, pace.slow_start, pace.unavailable, lambda: later(store, 2.5)])()
        time.sleep(chance.uniform(0.01, 0.1))
        later(store, 60)
        time.sleep(chance.uniform(0.01, 0.1))
