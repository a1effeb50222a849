"""What the socket tests share: news in the journal, callers with a ticket or a session, a web process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from deploy.local.program import ROOT
from pems_sync.events import QueuePaused
from pems_sync.journal import unit_of_work
from pems_sync.models import JournalHead, Organization
from realtime import tickets
from realtime.routing import sockets

WEB_FLAGS = (
    "--lifespan", "off", "--ws", "websockets-sansio", "--ws-max-size", "65536", "--ws-per-message-deflate", "false",
    "--timeout-graceful-shutdown", "5",
)  # fmt: skip


def happen(organization: Organization, count: int = 1, *, reason: str = "test") -> int:
    """That many events in one transaction. The seq of the last one."""
    with unit_of_work() as work:
        for _ in range(count):
            work.record(QueuePaused(organization_id=organization.pk, actor="test", reason=reason))
    return JournalHead.objects.get(organization=organization).seq


def ticket_for(user: User, organization: Organization, **proof: str) -> str:
    return tickets.issue(tickets.Visitor(user.pk, organization.pk, **proof))


def path_for(user: User, organization: Organization, **proof: str) -> str:
    return f"/api/ws/sync/{organization.slug}?ticket={ticket_for(user, organization, **proof)}"


def cookie_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return f"sessionid={client.cookies['sessionid'].value}"


class Listener(ApplicationCommunicator):
    """A client without a network in between. (channels.testing would need the server Daphne.)"""

    def __init__(self, path: str, **headers: str) -> None:
        parts = urlsplit(path)
        scope = {
            "type": "websocket",
            "path": unquote(parts.path),
            "query_string": parts.query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        super().__init__(sockets, scope)

    async def connect(self) -> str:
        """What the server answers to the handshake."""
        await self.send_input({"type": "websocket.connect"})
        return str((await self.receive_output(timeout=5))["type"])

    async def open(self) -> dict[str, Any]:
        """Its CONNECTED event."""
        assert await self.connect() == "websocket.accept"
        [connected] = await self.frame()
        return connected

    async def frame(self, seconds: float = 10) -> list[dict[str, Any]]:
        message = await self.receive_output(timeout=seconds)
        assert message["type"] == "websocket.send", message
        return loads(message["text"])

    async def events(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += await self.frame()
        return found

    async def close_code(self, seconds: float = 6) -> int:
        async with asyncio.timeout(seconds):
            while (message := await self.receive_output(timeout=seconds))["type"] != "websocket.close":
                pass
        return int(message["code"])

    async def say(self, text: str | bytes) -> None:
        await self.send_input({"type": "websocket.receive", "text" if isinstance(text, str) else "bytes": text})

    async def resume(self, after: Any) -> None:
        await self.say(json.dumps({"type": "RESUME", "after": after}))

    async def leave(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1001})
        await self.wait()


async def refusal(path: str, **headers: str) -> int:
    listener = Listener(path, **headers)
    assert await listener.connect() == "websocket.accept", "accepted first, so that a browser sees the code"
    return await listener.close_code()


def seqs(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events]


def test_database_url() -> str:
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}"))


test_database_url.__test__ = False  # type: ignore[attr-defined]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def web_process(log_path: str, *flags: str, **env: str) -> Iterator[str]:
    """uvicorn on the database and Redis of the test; yields its host and port."""
    place = f"127.0.0.1:{free_port()}"
    argv = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", place.rpartition(":")[2]]
    environment = {**os.environ, "DATABASE_URL": test_database_url(), **env}
    with open(log_path, "wb") as log:
        process = subprocess.Popen([*argv, *WEB_FLAGS, *flags], cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            await_listening(place, process)
            yield place
        finally:
            process.terminate()
            process.wait(15)


def await_listening(place: str, process: subprocess.Popen[bytes]) -> None:
    host, _, port = place.rpartition(":")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the web process does not start")


def loads(text: str | bytes) -> list[dict[str, Any]]:
    frame = json.loads(text)
    assert isinstance(frame, list)
    return frame
