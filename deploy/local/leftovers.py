"""Servers that outlived a crashed run: known by where they live and what they are, never by a remembered process id."""

import os
import signal
import time
from pathlib import Path


def end_leftovers(directory: Path, executable: str, *, patience_seconds: float = 1.0) -> None:
    """Ends every process of `executable` that works in `directory`: SIGINT first, SIGKILL after the patience.

    The caller holds the claim on the state directory, so nobody alive has a right to a server in there.
    """
    deadline = time.monotonic() + patience_seconds
    _signal_all(directory, executable, signal.SIGINT)
    while living_in(directory, executable):
        if time.monotonic() > deadline:
            _signal_all(directory, executable, signal.SIGKILL)
        time.sleep(0.02)


def living_in(directory: Path, executable: str) -> list[int]:
    """Process ids of `executable` that work in `directory` (PostgreSQL and Redis both change into their data)."""
    return [
        int(entry.name)
        for entry in Path("/proc").glob("[0-9]*")
        if _link(entry / "cwd") == str(directory) and Path(_link(entry / "exe")).name.split(" ")[0] == executable
    ]


def _link(path: Path) -> str:
    try:
        return os.readlink(path)  # unreadable for a zombie, and for a process of somebody else: neither can be ours
    except OSError:
        return ""


def _signal_all(directory: Path, executable: str, number: signal.Signals) -> None:
    for process_id in living_in(directory, executable):
        try:
            os.kill(process_id, number)
        except ProcessLookupError:
            continue
