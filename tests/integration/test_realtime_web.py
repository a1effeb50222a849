"""Sockets of a real web process: uvicorn, its pool, its pings, its log, and a Redis that goes away."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import websockets
from redis import Redis as Client
from redis import RedisError
from websockets.asyncio.client import ClientConnection, connect

from deploy.local.redis import Redis
from deploy.local.state import StateDirectory
from realtime.reading import in_thread
from tests.integration.realtime_cast import (
    cookie_of,
    happen,
    loads,
    path_for,
    seqs,
    ticket_for,
    web_process,
)

pytestmark = [pytest.mark.usefixtures("transactional_db"), pytest.mark.process]


@pytest.fixture
def web(tmp_path: Path, cast) -> Iterator[str]:
    log = tmp_path / "web.log"
    with web_process(str(log)) as place:
        yield place
    said = log.read_text()
    assert "Traceback" not in said, said
    assert "ticket=" not in said, "a ticket in the log"


async def frame(client: ClientConnection, seconds: float = 5) -> list[dict[str, Any]]:
    return loads(await asyncio.wait_for(client.recv(), seconds))


async def events(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        found += await frame(client)
    return found


async def code(client: ClientConnection, seconds: float = 6) -> int | None:
    await asyncio.wait_for(client.wait_closed(), seconds)
    return client.close_code


def test_from_ticket_to_event_and_back_after_a_break(web, rio, cast):
    async def scenario() -> None:
        async with connect(f"ws://{web}{path_for(cast.planner, rio)}") as client:
            [connected] = await frame(client)
            assert (connected["type"], connected["seq"]) == ("CONNECTED", 0)
            await asyncio.sleep(0.3)
            started = time.perf_counter()
            await in_thread(happen, rio)
            assert seqs(await frame(client)) == [1]
            assert time.perf_counter() - started < 0.3
        await in_thread(happen, rio, 700)
        async with connect(f"ws://{web}{await in_thread(path_for, cast.planner, rio)}") as client:
            await client.send(json.dumps({"type": "RESUME", "after": 1}))
            assert [event["type"] for event in await frame(client)] == ["CONNECTED"]
            assert seqs(await events(client, 700)) == list(range(2, 702))

    asyncio.run(scenario())


def test_close_codes_reach_the_client(web, rio, cast):
    used = path_for(cast.planner, rio)

    async def scenario() -> list[int | None]:
        codes = []
        async with connect(f"ws://{web}{used}") as client:
            await frame(client)
            for _ in range(21):
                await client.send("{}")
            codes.append(await code(client))
        for path in (used, "/api/ws/sync/org-rio", f"/api/ws/sync/org-portarthur?ticket={ticket_for(cast.lead, rio)}"):
            async with connect(f"ws://{web}{path}") as client:
                codes.append(await code(client))
        return codes

    assert asyncio.run(scenario()) == [4429, 4401, 4401, 4403]


def test_the_session_cookie_needs_our_own_origin(web, rio, cast):
    url, cookie = f"ws://{web}/api/ws/sync/org-rio", {"Cookie": cookie_of(cast.planner)}

    async def scenario() -> list[Any]:
        async with connect(url, additional_headers=cookie, origin=f"http://{web}") as client:  # type: ignore[arg-type]
            [connected] = await frame(client)
        async with connect(url, additional_headers=cookie, origin="https://elsewhere.example") as client:  # type: ignore[arg-type]
            foreign = await code(client)
        async with connect(url, additional_headers=cookie) as client:
            return [connected["type"], foreign, await code(client)]

    assert asyncio.run(scenario()) == ["CONNECTED", 4403, 4403]


def test_a_membership_that_ends_closes_the_socket_within_five_seconds(web, rio, cast):
    async def scenario() -> tuple[int | None, float]:
        async with connect(f"ws://{web}{path_for(cast.planner, rio)}") as client:
            await frame(client)
            await in_thread(cast.planner.memberships.all().delete)
            started = time.perf_counter()
            return await code(client), time.perf_counter() - started

    found, seconds = asyncio.run(scenario())
    assert found == 4403
    assert seconds < 5


@pytest.mark.parametrize("path", ["/api/ws/sync", "/api/ws/sync/org-rio/", "/", "/api/ws/other"])
def test_a_path_that_is_no_socket_is_a_403(web, path):
    async def scenario() -> int:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(f"ws://{web}{path}")
        return refused.value.response.status_code

    assert asyncio.run(scenario()) == 403


@pytest.mark.parametrize(
    "junk", ["{", "[" * 990, "null", b"\x00\xff", b"", "", "\x00", '{"type":"RESUME","after":1e999}']
)
def test_junk_does_no_harm(web, rio, cast, junk):
    async def scenario() -> int:
        async with connect(f"ws://{web}{path_for(cast.planner, rio)}") as client:
            await frame(client)
            await client.send(junk)
            await in_thread(happen, rio)
            found = await frame(client)
            if found[0]["type"] == "RESET":
                found = await frame(client)
            return int(found[0]["seq"])

    assert asyncio.run(scenario()) == 1


def test_a_huge_message_closes_its_socket_only(web, rio, cast):
    async def scenario() -> tuple[int | None, list[int]]:
        async with (
            connect(f"ws://{web}{path_for(cast.planner, rio)}") as other,
            connect(f"ws://{web}{path_for(cast.planner, rio)}") as client,
        ):
            await frame(other)
            await frame(client)
            await client.send("x" * 1_000_000)
            found = await code(client)
            await in_thread(happen, rio)
            return found, seqs(await frame(other))

    assert asyncio.run(scenario()) == (1009, [1])


def test_who_stops_reading_delays_nobody_and_is_cut_off(web, rio, cast):
    async def scenario() -> tuple[float, bytes]:
        with closing(silent_client(web, path_for(cast.planner, rio))) as silent:
            async with connect(f"ws://{web}{path_for(cast.viewer, rio)}") as client:
                await frame(client)
                slowest = 0.0
                for _ in range(25):  # 7 MB
                    started = time.perf_counter()
                    last = await in_thread(write_much, rio)
                    while (await frame(client))[-1]["seq"] < last:
                        pass
                    slowest = max(slowest, time.perf_counter() - started)
            return slowest, await asyncio.to_thread(read_to_the_end, silent, 20)

    slowest, received = asyncio.run(scenario())
    assert slowest < 2
    assert ends_within_a_frame(received), "what was waiting for the silent one was thrown away"


def write_much(organization) -> int:
    return happen(organization, 400, reason="x" * 500)


def silent_client(place: str, path: str) -> socket.socket:
    """Shakes hands and never reads again."""
    host, _, port = place.rpartition(":")
    silent = socket.socket()
    silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    silent.connect((host, int(port)))
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
    upgrade = f"Host: {place}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}"
    silent.sendall(f"GET {path} HTTP/1.1\r\n{upgrade}\r\n\r\n".encode())
    return silent


def read_to_the_end(silent: socket.socket, seconds: float) -> bytes:
    """Waits until the server gives up on it, then reads what is left; TimeoutError when the server does not."""
    time.sleep(13)  # 5 s for the frame that is stuck, a second to notice, 5 s for the close that gets stuck behind it
    silent.settimeout(seconds)
    received = b""
    try:
        while chunk := silent.recv(65_536):
            received += chunk
    except ConnectionResetError:
        return received
    return received


def ends_within_a_frame(received: bytes) -> bool:
    at = received.index(b"\r\n\r\n") + 4
    while at + 10 <= len(received):
        size = received[at + 1]
        head = {126: 4, 127: 10}.get(size, 2)
        at += head + (int.from_bytes(received[at + 2 : at + head]) if head > 2 else size)
    return at > len(received)


def test_the_server_pings(tmp_path, rio, cast):
    with (
        web_process(str(tmp_path / "web.log"), "--ws-ping-interval", "0.3") as place,
        closing(silent_client(place, path_for(cast.planner, rio))) as client,
    ):
        client.settimeout(5)
        received = b""
        while b"\x89\x04" not in received:
            chunk = client.recv(4096)
            assert chunk, received
            received += chunk


def test_redis_may_end_and_come_back(tmp_path, rio, cast):
    """The web process has a Redis of its own here, so that no bell of the test itself reaches it."""
    redis = Redis(StateDirectory(tmp_path))
    redis.start()
    try:
        with web_process(str(tmp_path / "web.log"), REDIS_URL=redis.url) as place:
            asyncio.run(redis_ends_and_comes_back(place, redis, rio, cookie_of(cast.planner)))
    finally:
        redis.stop()


async def redis_ends_and_comes_back(place: str, redis: Redis, rio: Any, cookie: str) -> None:
    url = f"ws://{place}/api/ws/sync/org-rio"
    async with connect(url, additional_headers={"Cookie": cookie}, origin=f"http://{place}") as client:  # type: ignore[arg-type]
        await frame(client)
        redis.program.kill()
        await in_thread(happen, rio)
        assert seqs(await frame(client, 2)) == [1], "by the look of the hub itself"
        async with connect(url, additional_headers={"Cookie": cookie}, origin=f"http://{place}") as another:  # type: ignore[arg-type]
            assert [event["seq"] for event in await frame(another)] == [1], "sessions need no Redis"
        async with connect(f"{url}?ticket=x") as refused:
            assert await code(refused, 15) == 1013
        redis.program.launch()
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and not subscribed(redis):
            await asyncio.sleep(0.1)
        assert subscribed(redis), "it listens again"
        await in_thread(happen, rio)
        assert seqs(await frame(client, 2)) == [2]


def subscribed(redis: Redis) -> bool:
    with Client.from_url(redis.url) as client:
        try:
            return any(b"sync." in channel for channel in client.pubsub_channels())
        except RedisError:
            return False


def test_a_web_process_with_open_sockets_stops_at_once(tmp_path, rio, cast):
    async def scenario(place: str) -> ClientConnection:
        client = await connect(f"ws://{place}{path_for(cast.planner, rio)}")
        await frame(client)
        return client

    log = tmp_path / "web.log"

    async def run() -> tuple[int | None, float]:
        with web_process(str(log)) as place:
            client = await scenario(place)
            started = time.perf_counter()
        return await code(client), time.perf_counter() - started

    found, seconds = asyncio.run(run())
    assert found == 1012
    assert seconds < 5
    assert "Traceback" not in log.read_text(), log.read_text()
