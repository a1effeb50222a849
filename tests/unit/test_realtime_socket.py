"""One socket: what it is sent, in which order, and what it may say."""

import asyncio
import json
import time
from typing import Any

import pytest

from realtime.endpoint import sync_socket
from realtime.reading import in_thread
from tests.integration.realtime_cast import Listener, happen, path_for, seqs

pytestmark = pytest.mark.usefixtures("transactional_db")


def test_an_event_arrives_within_milliseconds(rio, cast):
    async def scenario() -> list[float]:
        listener = Listener(path_for(cast.viewer, rio))
        await listener.open()
        await asyncio.sleep(0.3)  # the grace after joining, and the subscription
        waits = []
        for _ in range(5):
            await asyncio.sleep(0.06)
            started = time.perf_counter()
            await in_thread(happen, rio)
            await listener.frame()
            waits.append(time.perf_counter() - started)
        return waits

    assert sorted(asyncio.run(scenario()))[2] < 0.1, "well before the hub looks by itself"


def test_resume_comes_before_what_happens_while_connecting(rio, cast):
    first = happen(rio, 5)

    async def scenario() -> tuple[int, list[dict[str, Any]]]:
        other, listener = Listener(path_for(cast.viewer, rio)), Listener(path_for(cast.planner, rio))
        await other.open()
        await asyncio.sleep(0.3)
        connected = await listener.open()
        await in_thread(happen, rio, 2)
        await other.events(2)  # by now they are live
        await listener.resume(first - 3)
        return connected["seq"], await listener.events(5)

    connected, events = asyncio.run(scenario())
    assert connected == first
    assert seqs(events) == list(range(first - 2, first + 3))


def test_without_resume_live_events_start_after_the_grace(rio, cast):
    async def scenario() -> list[dict[str, Any]]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await in_thread(happen, rio, 2)
        return await listener.events(2)

    assert seqs(asyncio.run(scenario())) == [1, 2]


def test_resume_may_come_at_any_time_and_live_goes_on(rio, cast):
    async def scenario() -> list[int]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await in_thread(happen, rio, 3)
        found = seqs(await listener.events(3))
        await listener.resume(1)
        found += seqs(await listener.events(2))
        await in_thread(happen, rio)
        return found + seqs(await listener.events(1))

    assert asyncio.run(scenario()) == [1, 2, 3, 2, 3, 4]


def test_a_thousand_missed_events_are_replayed(rio, cast):
    last = happen(rio, 1_010)

    async def scenario() -> list[dict[str, Any]]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await listener.resume(last - 1_000)
        return await listener.events(1_000)

    assert seqs(asyncio.run(scenario())) == list(range(last - 999, last + 1))


@pytest.mark.parametrize("after", [9, -1, 1_021, 10**30, 1020.0, True, None, "1020", [], {}])
def test_what_cannot_be_replayed_is_answered_by_reset_and_live_goes_on(rio, cast, after):
    last = happen(rio, 1_020)

    async def scenario() -> list[dict[str, Any]]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await listener.resume(10 if after == 9 else after)  # 10 misses 1,010 events
        found = await listener.frame()
        await in_thread(happen, rio)
        return found + await listener.frame()

    [reset, live] = asyncio.run(scenario())
    assert (reset["type"], reset["organizationId"], "seq" in reset) == ("RESET", "org-rio", False)
    assert live["seq"] == last + 1


def test_a_resume_without_after_is_answered_by_reset(rio, cast):
    async def scenario() -> list[dict[str, Any]]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await listener.say('{"type":"RESUME"}')
        return await listener.frame()

    assert [event["type"] for event in asyncio.run(scenario())] == ["RESET"]


def test_resume_with_nothing_missed_sends_nothing(rio, cast):
    last = happen(rio, 3)

    async def scenario() -> list[dict[str, Any]]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await listener.resume(last)
        assert await listener.receive_nothing(0.3)
        await in_thread(happen, rio)
        return await listener.frame()

    assert seqs(asyncio.run(scenario())) == [last + 1]


def test_an_event_that_another_process_saw_first_is_not_a_future_one(rio, cast, settings):
    settings.REALTIME = {"look_seconds": 30.0}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}  # no bell arrives

    async def scenario() -> str:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await in_thread(happen, rio, 2)
        await listener.resume(2)
        nothing = await listener.receive_nothing(0.3)
        await listener.resume(3)
        return "" if not nothing else (await listener.frame())[0]["type"]

    assert asyncio.run(scenario()) == "RESET"


@pytest.mark.parametrize(
    "junk", ["{", "null", "[]", "x" * 60_000, b"\x00\xff", '{"type":"PING"}', '{"type":7}', "[" * 999, '"\\ud800"']
)
def test_junk_is_ignored(rio, cast, junk):
    async def scenario() -> list[dict[str, Any]]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await listener.say(junk)
        await in_thread(happen, rio)
        return await listener.frame()

    assert seqs(asyncio.run(scenario())) == [1]


def test_more_than_twenty_messages_a_second_are_4429(rio, cast):
    async def scenario() -> int:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        for _ in range(21):
            await listener.say("{}")
        return await listener.close_code()

    assert asyncio.run(scenario()) == 4429


def test_who_does_not_read_is_4408_and_delays_nobody(rio, cast, settings):
    settings.REALTIME = {"send_seconds": 0.5}
    path = path_for(cast.planner, rio)

    async def scenario() -> tuple[float, int]:
        stuck = StuckClient(path.partition("?")[2])
        serving = asyncio.create_task(sync_socket(stuck.scope, stuck.receive, stuck.send))
        other = Listener(path_for(cast.viewer, rio))
        await other.open()
        await asyncio.sleep(0.3)
        stuck.is_stuck = True
        started = time.perf_counter()
        await in_thread(happen, rio)
        await other.frame()
        seconds = time.perf_counter() - started
        await asyncio.wait_for(serving, 5)
        return seconds, stuck.code

    seconds, code = asyncio.run(scenario())
    assert seconds < 0.2
    assert code == 4408


def test_who_falls_too_far_behind_is_4408(rio, cast, settings):
    settings.REALTIME = {"kept_events": 20, "resumable_events": 20, "events_per_frame": 10}
    path = path_for(cast.planner, rio)

    async def scenario() -> int:
        stuck = StuckClient(path.partition("?")[2])
        serving = asyncio.create_task(sync_socket(stuck.scope, stuck.receive, stuck.send))
        await asyncio.sleep(0.3)
        stuck.is_stuck = True
        await in_thread(happen, rio, 100)
        await asyncio.sleep(1)
        stuck.is_stuck = False
        await asyncio.wait_for(serving, 5)
        return stuck.code

    assert asyncio.run(scenario()) == 4408


class StuckClient:
    """An ASGI server's side of a connection whose client stops reading: sends wait, a close gets through later."""

    def __init__(self, query: str) -> None:
        route = {"kwargs": {"organization_id": "org-rio"}}
        self.scope = {"query_string": query.encode(), "headers": [], "url_route": route}
        self.is_stuck = False
        self.code = 0
        self._first = True

    async def receive(self) -> dict[str, Any]:
        if not self._first:
            await asyncio.sleep(3600)
        self._first = False
        return {"type": "websocket.connect"}

    async def send(self, message: dict[str, Any]) -> None:
        while self.is_stuck and message["type"] == "websocket.send":
            await asyncio.sleep(0.02)
        if message["type"] == "websocket.close":
            self.code = message["code"]
        elif message["type"] == "websocket.send":
            json.loads(message["text"])
