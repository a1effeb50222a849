"""The hub: who hears what, how often, and what happens when Redis says nothing."""

import asyncio
import time
from typing import Any

import pytest

from pems_sync.models import JournalHead
from realtime.feed import Feed
from realtime.hub import hub_of_this_process
from realtime.limits import Limits
from realtime.reading import in_thread
from tests.integration.realtime_cast import Listener, happen, loads, path_for, seqs

pytestmark = pytest.mark.usefixtures("transactional_db")
SILENT_LAYER = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


def test_two_organizations_never_mix(rio, portarthur, cast):
    async def scenario() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        here, there = Listener(path_for(cast.planner, rio)), Listener(path_for(cast.outsider, portarthur))
        await here.open()
        await there.open()
        for _ in range(3):
            await in_thread(happen, rio)
            await in_thread(happen, portarthur, 2)
        return await here.events(3), await there.events(6)

    here, there = asyncio.run(scenario())
    assert ({event["organizationId"] for event in here}, seqs(here)) == ({"org-rio"}, [1, 2, 3])
    assert ({event["organizationId"] for event in there}, seqs(there)) == ({"org-portarthur"}, [1, 2, 3, 4, 5, 6])


def test_a_burst_is_folded_into_few_frames(rio, cast):
    async def scenario() -> tuple[list[int], float]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await asyncio.sleep(0.3)
        started = time.perf_counter()
        writing = asyncio.create_task(in_thread(write_apart, rio, 60))
        sizes: list[int] = []
        while sum(sizes) < 60:
            sizes.append(len(await listener.frame()))
        await writing
        return sizes, time.perf_counter() - started

    sizes, seconds = asyncio.run(scenario())
    assert len(sizes) <= seconds / 0.05 + 1 + Limits().broadcasts_at_once, (
        "one frame in 50 ms, and the first few at once"
    )
    assert len(sizes) < 60


def test_the_few_events_of_one_edit_are_not_held_up_by_each_other(rio, cast, settings):
    """Accepted, started, confirmed: three frames in a moment, where folding would take ten seconds."""
    settings.REALTIME = {"fold_seconds": 5.0}

    async def scenario() -> list[int]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await asyncio.sleep(0.3)
        sizes: list[int] = []
        async with asyncio.timeout(4):
            for _ in range(3):
                await in_thread(happen, rio)
                sizes.append(len(await listener.frame()))
        return sizes

    assert asyncio.run(scenario()) == [1, 1, 1]


def write_apart(organization, count: int) -> None:
    for _ in range(count):
        happen(organization)


def test_a_large_burst_comes_in_frames_of_at_most_500(rio, cast):
    async def scenario() -> list[list[dict[str, Any]]]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await asyncio.sleep(0.3)
        await in_thread(happen, rio, 1_300)
        frames: list[list[dict[str, Any]]] = []
        while sum(map(len, frames)) < 1_300:
            frames.append(await listener.frame())
        return frames

    frames = asyncio.run(scenario())
    assert max(map(len, frames)) <= 500
    assert [event["seq"] for frame in frames for event in frame] == list(range(1, 1_301))


def test_a_lost_bell_delays_by_a_second_at_most(rio, cast, settings):
    settings.CHANNEL_LAYERS = SILENT_LAYER

    async def scenario() -> float:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await asyncio.sleep(0.3)
        started = time.perf_counter()
        await in_thread(happen, rio)
        await listener.frame()
        return time.perf_counter() - started

    assert asyncio.run(scenario()) < 1.3


def test_no_hole_for_clients_that_come_and_go_while_others_write(rio, cast):
    total, writers = 240, 4

    async def client() -> list[int]:
        """Reconnects after every few frames, resumes after the last it has, and keeps only what follows that."""
        found: list[int] = []
        while len(found) < total:
            listener = Listener(await in_thread(path_for, cast.planner, rio))
            await listener.open()
            await listener.resume(found[-1] if found else 0)
            for _ in range(3):
                for seq in seqs(await listener.frame()) if len(found) < total else ():
                    found += [seq] if seq == len(found) + 1 else []
            await listener.leave()
        return found

    async def scenario() -> list[list[int]]:
        writing = [asyncio.create_task(in_thread(write_apart, rio, total // writers)) for _ in range(writers - 1)]
        clients = [asyncio.create_task(client()) for _ in range(3)]
        await asyncio.gather(*writing)
        await in_thread(write_apart, rio, total // writers)
        return await asyncio.gather(*clients)

    assert asyncio.run(scenario()) == [list(range(1, total + 1))] * 3


def test_a_bell_that_rings_while_the_feed_opens_repeats_nothing(rio):
    last = happen(rio, 17)

    async def opened_and_rung(delay: float) -> tuple[int, list[int]]:
        feed = Feed(rio.pk, rio.slug, Limits())
        feed.ring(last)
        await asyncio.sleep(delay)
        await asyncio.gather(feed.follow(), feed.opening)
        batch = feed.next_batch(0)
        assert batch
        return feed.seq, seqs(loads(batch.text))

    async def scenario() -> list[tuple[int, list[int]]]:
        return [await opened_and_rung(delay / 2_000) for delay in range(40)]

    assert asyncio.run(scenario()) == [(last, list(range(1, last + 1)))] * 40


def test_after_a_restore_sockets_are_closed_to_start_over(rio, cast):
    happen(rio, 3)

    async def scenario() -> tuple[int, int]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await in_thread(JournalHead.objects.filter(organization=rio).update, seq=1)
        code = await listener.close_code()
        again = await Listener(await in_thread(path_for, cast.planner, rio)).open()
        return code, again["seq"]

    assert asyncio.run(scenario()) == (1012, 1)


def test_an_organization_nobody_listens_to_is_forgotten(rio, cast, settings):
    settings.REALTIME = {"idle_seconds": 0.5, "look_seconds": 0.2}

    async def scenario() -> tuple[int, int]:
        listener = Listener(path_for(cast.planner, rio))
        await listener.open()
        await listener.leave()
        before = len(hub_of_this_process().feeds)
        await asyncio.sleep(1.2)
        return before, len(hub_of_this_process().feeds)

    assert asyncio.run(scenario()) == (1, 0)
