"""The announcement of a growing journal costs its writer nothing, whatever Redis does."""

import asyncio
import os
import subprocess
import sys
import time

from channels.layers import get_channel_layer

from deploy.local.program import ROOT
from pems_sync.journal import journal_grew
from realtime.announcing import Announcer, announce_growth, group_of

SPEAKER = """
import django; django.setup()
from realtime.announcing import announce_growth
for seq in range(1, 501): announce_growth(1, seq)
"""
FORKED = """
import os, django; django.setup()
from realtime.announcing import announce_growth
announce_growth(1, 1)
if os.fork() == 0:
    announce_growth(1, 2)
    raise SystemExit
os.wait()
"""


async def heard(speak) -> list[int]:
    """The seqs that arrive in the group of organization 1 while, and half a second after, `speak` runs."""
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group_of(1), channel)
    found: list[int] = []
    await asyncio.to_thread(speak)
    try:
        while True:
            found.append((await asyncio.wait_for(layer.receive(channel), 0.5))["seq"])
    except TimeoutError:
        return found


def run(program: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )


def test_a_process_that_ends_at_once_has_said_its_last_word():
    done: list[subprocess.CompletedProcess[str]] = []
    found = asyncio.run(heard(lambda: done.append(run(SPEAKER))))
    assert (done[0].returncode, done[0].stderr) == (0, "")
    assert found[-1] == 500
    assert len(found) < 100, "a burst is few messages"


def test_a_forked_child_speaks_for_itself():
    done: list[subprocess.CompletedProcess[str]] = []
    found = asyncio.run(heard(lambda: done.append(run(FORKED))))
    assert sorted(found) == [1, 2], "both are heard; which of two processes is faster is nobody's promise"
    assert (done[0].returncode, done[0].stderr) == (0, "")


def test_the_receiver_returns_at_once():
    announce_growth(organization_id=1, seq=1)
    started = time.perf_counter()
    for seq in range(1_000):
        announce_growth(organization_id=seq % 7, seq=seq)
    assert (time.perf_counter() - started) / 1_000 < 0.0005


def test_redis_away_costs_the_writer_nothing_and_the_process_a_second_at_its_end():
    started = time.perf_counter()
    done = run(SPEAKER, REDIS_URL="redis://127.0.0.1:1/0")
    said = done.stdout + done.stderr
    assert done.returncode == 0
    assert said.count("announcement_lost") == 1
    assert "Traceback" not in said
    assert time.perf_counter() - started < 15


def test_an_announcer_ends_cleanly():
    for _ in range(2):
        announcer = Announcer()
        announcer.announce(1, 1)
        announcer.finish()
        assert not announcer._thread.is_alive()


def test_the_journal_is_wired_to_it():
    assert announce_growth in [receiver() for _, receiver, *_ in journal_grew.receivers]
