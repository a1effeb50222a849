"""A body without end is stopped while it comes, before Django has kept it on disk (S7)."""

from __future__ import annotations

import asyncio
import json
from itertools import repeat
from typing import Any

from config.body_limit import CEILING_BYTES, with_body_ceiling


async def _reads_all(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})


def answer_to(parts: list[bytes] | repeat) -> tuple[list[dict], int]:
    """What is sent to a client that sends these parts, and how many of them were taken."""
    sent: list[dict] = []
    taken = 0
    coming = iter(parts)

    async def receive() -> dict:
        nonlocal taken
        part = next(coming, None)
        taken += part is not None
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(with_body_ceiling(_reads_all)({"type": "http"}, receive, send))
    return sent, taken


def test_an_endless_body_is_413_and_no_longer_read() -> None:
    sent, taken = answer_to(repeat(b"x" * 100_000))
    assert sent[0]["status"] == 413
    assert json.loads(sent[1]["body"])["error"] == "BODY_TOO_LARGE"
    assert taken == CEILING_BYTES // 100_000 + 1


def test_a_body_below_the_ceiling_passes() -> None:
    sent, _ = answer_to([b"x" * 100_000] * 20)
    assert sent[0]["status"] == 200
