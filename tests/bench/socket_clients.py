"""Many sockets in one process, each as cheap as can be: the time taken shall be the server's.

`python -m tests.bench.socket_clients HOST PORT` reads request paths from standard input, one a line, up to an empty
line; says `open` when all are connected; then one line per event with the seq and the times (CLOCK_MONOTONIC,
comparable between processes) at which it reached each socket.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import defaultdict

SEQ = re.compile(rb'"seq":(\d+)')
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Board:
    """Who has received what, and when."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.connected = 0
        self.all_connected = asyncio.Event()
        self._times: dict[int, list[float]] = defaultdict(list)

    def note(self, seq: int, at: float) -> None:
        times = self._times[seq]
        times.append(at)
        if len(times) == self.count:
            print(json.dumps({"seq": seq, "times": times}), flush=True)

    def note_connected(self) -> None:
        self.connected += 1
        if self.connected == self.count:
            self.all_connected.set()


class Client(asyncio.Protocol):
    """Takes a chunk for a frame: events of this benchmark are small and far apart. Answers no ping: it is too short."""

    def __init__(self, board: Board, request: bytes) -> None:
        self._board, self._request = board, request
        self._is_connected = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        at = time.monotonic()
        if self._is_connected:
            for seq in SEQ.findall(data):
                self._board.note(int(seq), at)
        elif b"CONNECTED" in data:
            self._is_connected = True
            self._board.note_connected()

    def connection_lost(self, exc: Exception | None) -> None:
        print(json.dumps({"lost": str(exc)}), flush=True)


async def main(host: str, port: int, paths: list[str]) -> None:
    board = Board(len(paths))
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(50)

    async def connect(path: str) -> None:
        request = UPGRADE.format(path=path, host=f"{host}:{port}").encode()
        async with gate:
            await loop.create_connection(lambda: Client(board, request), host, port)

    await asyncio.gather(*(connect(path) for path in paths))
    await board.all_connected.wait()
    print("open", flush=True)
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), list(iter(lambda: sys.stdin.readline().strip(), ""))))
