"""PEMS is in a hurry to be left alone (D11): Retry-After is kept by all, the pace is lowered and comes back."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic

import pytest

from pems_sync.client.base import Fault, FaultKind
from pems_sync.client.connect import pace_for
from pems_sync.clock import database_now
from pems_sync.errors import PemsUnavailableError
from pems_sync.models import Connection, Modification
from pems_sync.models.organization import Breaker
from pems_sync.reading import read_now
from pems_sync.states import State
from pems_sync.store import redis_store
from pems_sync.turns import note_fault
from tests.engine import Engine

LIMIT = 500
HOUR = 3600


def share(engine: Engine) -> float:
    return pace_for(engine.connection()).rate() / LIMIT


def key(engine: Engine) -> str:
    return f"pems-sync:pace:{engine.connection().slug}"


def later(engine: Engine, seconds: float) -> None:
    """As if so much time had passed since the pace was lowered."""
    lowered_at = float(redis_store().hget(key(engine), "lowered_at"))
    redis_store().hset(key(engine), "lowered_at", f"{lowered_at - seconds * 1e6:.0f}")


def redis_now() -> float:
    seconds, micros = redis_store().time()
    return float(seconds) + micros / 1e6


def held_for(engine: Engine, record: int = 0, **script: object) -> tuple[float, float]:
    """A request is throttled. The least and the most that the fleet is then held for, in seconds."""
    forgotten(engine)
    row = engine.edit(engine.records[record], model="1")
    engine.sandbox.script("status_429", **script)
    before = redis_now()
    engine.send()
    after = redis_now()
    assert engine.state(row) is State.QUEUED
    held = float(redis_store().hget(key(engine), "held")) / 1e6
    return held - after, held - before


def forgotten(engine: Engine) -> None:
    """Nobody is held any more."""
    Connection.objects.update(held_until=None)
    engine.forget_requests()
    redis_store().hset(key(engine), "held", "0")


# ---------------------------------------------------------------- Retry-After


def test_nothing_arrives_for_as_long_as_pems_says(engine):
    rows = [engine.edit(record, model="1") for record in engine.records[:4]]
    engine.sandbox.script("status_429", retryAfter="2")
    asked = engine.sandbox.stats()["requests"]["total"]
    engine.send()
    ends = monotonic() + 30
    while engine.state(rows[0]) is not State.CONFIRMED and monotonic() < ends:
        Connection.objects.update(held_until=None)  # a worker that has not heard of it: the pace holds it back
        with suppress(PemsUnavailableError):
            read_now(engine.organization, [engine.records[9]], since=database_now())
        engine.send()
    throttled = next(each["at"] for each in engine.sandbox.faults()["recent"] if each["kind"] == "status_429")
    applied = min(entry["at"] for row in rows for entry in engine.applied(row))
    assert (moment(applied) - moment(throttled)).total_seconds() >= 2
    assert engine.sandbox.stats()["requests"]["total"] > asked + 1
    assert {engine.row(row).attempts for row in rows} == {0}, "being throttled burns nothing"


def moment(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp)


def test_nothing_is_claimed_or_read_meanwhile(engine, monkeypatch):
    monkeypatch.setattr("pems_sync.reading.PATIENCE_SECONDS", 0.2)
    held_for(engine, retryAfter="60")
    asked = engine.sandbox.stats()["requests"]["total"]
    assert engine.claim() == []
    with pytest.raises(PemsUnavailableError):
        read_now(engine.organization, [engine.records[1]], since=database_now())
    assert engine.sandbox.stats()["requests"]["total"] == asked


def test_whatever_it_says_is_kept_within_bounds(engine):
    wanted = {
        "7": 7, "0.5": 0.5, None: 1, "soon": 1, "-5": 1, "nan": 1, "0": 1, "99999999": HOUR, "inf": HOUR, "1e400": HOUR,
        "Fri, 31 Dec 9999 23:59:59 GMT": HOUR, "Thu, 01 Jan 1970 00:00:00 GMT": 1, "Fri, 99 Foo 2026 25:61:61 GMT": 1,
    }  # fmt: skip
    for number, (said, seconds) in enumerate(wanted.items()):
        Modification.objects.filter(state=State.QUEUED).update(not_before=database_now() + timedelta(days=1))
        least, most = held_for(engine, number, retryAfter=said)
        assert least <= seconds <= most, said
        rest = engine.connection().held_until
        assert rest is None or (rest - database_now()).total_seconds() <= HOUR, said


def test_a_date_is_kept_as_seconds_are(engine):
    least, most = held_for(engine, retryAfter=9, asDate=True)
    assert most > 7.5, "a date has no fractions of a second"
    assert least <= 9


# ---------------------------------------------------------------- the pace


def test_it_is_halved_once_and_comes_back(engine):
    held_for(engine, retryAfter="0.1")
    assert share(engine) == 0.5
    held_for(engine, 1, retryAfter="0.1")
    assert share(engine) == 0.5, "at most once in ten seconds"
    seen = []
    for _ in range(6):
        seen.append(round(share(engine), 2))
        later(engine, 5)
    assert seen == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def test_a_throttled_read_lowers_it_too(engine):
    engine.sandbox.script("status_429", operation="GET")
    with pytest.raises(PemsUnavailableError):
        read_now(engine.organization, [engine.records[0]], since=database_now())
    assert share(engine) == 0.5


def test_less_is_claimed_at_half_the_pace(engine):
    Connection.objects.update(requests_per_second=8, batch_size=1)
    for record in engine.records[:8]:
        engine.edit(record, model="1")
    pace_for(engine.connection()).lower()
    assert len(engine.claim()) == 2
    later(engine, 25)
    assert len(engine.claim()) == 2, "4 in half a second, of which 2 are under way"


def unavailable(engine: Engine, times: int) -> None:
    connection = engine.connection()
    for _ in range(times):
        note_fault(connection, pace_for(connection), Fault(FaultKind.UNAVAILABLE, "503"))


def test_the_third_503_halves_it_and_two_do_not(engine):
    rows = [engine.edit(record, model="1") for record in engine.records[:3]]
    engine.sandbox.script("status_503", retryAfter=None, times=None)
    engine.send()
    assert {engine.state(row) for row in rows} == {State.QUEUED}
    assert engine.connection().breaker == Breaker.CLOSED
    assert share(engine) == 0.5


def test_503s_while_the_breaker_is_not_closed_lower_nothing(engine):
    Connection.objects.update(breaker=Breaker.HALF_OPEN)
    unavailable(engine, 6)
    assert share(engine) == 1


def test_no_other_failure_lowers_it(engine):
    kinds = ("status_500", "status_502", "lost_reply", "reset_before", "item_423", "item_503", "item_422")
    for number, kind in enumerate(kinds):
        forgotten(engine)
        row = engine.edit(engine.records[number], model="1")
        engine.sandbox.script(kind, pfaId=row.pfa_id)
        engine.send()
        assert engine.state(row) in (State.QUEUED, State.UNKNOWN, State.DEAD), kind
        assert share(engine) == 1, kind
