"""Looked at every second while it runs, from outside: the database by SQL, PEMS by its own count."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import psycopg
import requests

from deploy.sandbox.process import SandboxError, SandboxProcess

DOUBLE_IN_FLIGHT = """
    SELECT record_id, count(*) FROM pems_sync_modification WHERE state IN ('sending', 'unknown')
    GROUP BY record_id HAVING count(*) > 1
"""
TWO_ATTEMPTS = """
    SELECT modification_id, epoch FROM pems_sync_attempt GROUP BY modification_id, epoch HAVING count(*) > 1
"""


class Watch(threading.Thread):
    """Findings of a kind are kept once each, as a sentence."""

    def __init__(self, database_url: str, sandbox_url: str) -> None:
        super().__init__(name="watch", daemon=True)
        self._database_url, self._sandbox = database_url, SandboxProcess.at(sandbox_url)
        self._over = threading.Event()
        self.double_in_flight: set[str] = set()
        self.applied_twice: set[str] = set()
        self.looks = 0

    def stop(self) -> None:
        self._over.set()
        self.join(timeout=15)

    def run(self) -> None:
        while not self._over.wait(1.0):
            self.look()

    def look(self) -> None:
        """Servers may be away for the moment; what is wrong stays wrong until the next look."""
        for check in (self._in_the_database, self._in_pems):
            self._tolerant(check)
        self.looks += 1

    def _tolerant(self, check: Callable[[], None]) -> None:
        with contextlib.suppress(psycopg.Error, SandboxError, requests.RequestException):
            check()

    def _in_the_database(self) -> None:
        with psycopg.connect(self._database_url, connect_timeout=5) as database:
            for record, number in database.execute(DOUBLE_IN_FLIGHT).fetchall():
                self.double_in_flight.add(f"record {record}: {number} edits under way at once (I3)")
            for modification, epoch in database.execute(TWO_ATTEMPTS).fetchall():
                self.double_in_flight.add(f"{modification}: two attempts in epoch {epoch} (I4)")

    def _in_pems(self) -> None:
        stats = self._sandbox.stats()
        self.applied_twice |= {f"key {key} was applied twice (I1)" for key in stats["keys"]["appliedMoreThanOnce"]}
