"""The hub's ear at Redis: one channel of the Channels layer per process, in one group per organization."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from channels.layers import get_channel_layer

from realtime.announcing import group_of


class Bells:
    def __init__(self) -> None:
        self._layer: Any = get_channel_layer()
        self._channel = ""
        self._opened = asyncio.Event()
        self._held: set[int] = set()

    async def hold(self, organization_ids: Iterable[int]) -> None:
        """Listen for these and no others. Raises when Redis does not answer; then call again."""
        wanted = set(organization_ids)
        if not self._channel:
            self._channel = await self._layer.new_channel()
            self._opened.set()
        for organization_id in wanted - self._held:
            await self._layer.group_add(group_of(organization_id), self._channel)
            self._held.add(organization_id)
        for organization_id in self._held - wanted:
            await self._layer.group_discard(group_of(organization_id), self._channel)
            self._held.discard(organization_id)

    async def next(self) -> tuple[int, int]:
        """Organization and seq."""
        await self._opened.wait()
        message = await self._layer.receive(self._channel)
        return int(message["organization"]), int(message["seq"])
