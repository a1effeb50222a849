"""One transaction's news: collected while it runs, appended by one call as its last statement.

    with unit_of_work() as work:
        …change rows…
        work.record(ModificationQueued(…))

`event_recorded` is sent for each event inside the transaction (a receiver may raise, and then nothing happened);
`journal_grew` after commit, with the last socket number of each organization that got one (a receiver may not raise).
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import psycopg
import structlog
from django.db import OperationalError, connection, models, transaction
from django.dispatch import Signal

from pems_sync import tallies
from pems_sync.clock import database_now
from pems_sync.events import Event
from pems_sync.models import JournalEntry, JournalHead
from pems_sync.origin import current_origin

log = structlog.get_logger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

event_recorded = Signal()
"""kwargs: `event`. Sent inside the publisher's transaction."""
journal_grew = Signal()
"""kwargs: `organization_id`, `seq`. Sent after commit, for organizations whose sockets have something to read."""


MOST_ENTRIES = 500
"""Of one transaction; only a commit by a person is one transaction whatever its size (PROTOCOL.md, Order of locks)."""


@dataclass
class UnitOfWork:
    """The events of one transaction, in order."""

    now: datetime
    events: list[Event] = field(default_factory=list)

    def record(self, event: Event) -> None:
        self.events.append(event)
        event_recorded.send(sender=type(event), event=event)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part that may fail alone: its rows and its events go, the rest stays. Re-raises."""
        kept = len(self.events)
        try:
            with transaction.atomic():
                yield
        except Exception:
            del self.events[kept:]
            raise


@contextmanager
def unit_of_work() -> Iterator[UnitOfWork]:
    """A transaction whose news are journalled together. Locks taken at its end: organization heads, by id."""
    with transaction.atomic():
        work = UnitOfWork(now=database_now())
        yield work
        _append(work)


def deadlock_retried(service: Callable[P, R]) -> Callable[P, R]:
    """A service whose transaction lost a deadlock (40P01) is carried out again as a whole."""

    @wraps(service)
    def carried_out(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(5):
            try:
                return service(*args, **kwargs)
            except OperationalError as error:
                nested = transaction.get_connection().in_atomic_block
                if nested or not isinstance(error.__cause__, psycopg.errors.DeadlockDetected):
                    raise
                log.warning("deadlock_retried", service=service.__name__)
        return service(*args, **kwargs)

    return carried_out


def _append(work: UnitOfWork) -> None:
    by_organization: dict[int | None, list[Event]] = defaultdict(list)
    for event in work.events:
        by_organization[event.organization_id].append(event)
    for organization_id in sorted(by_organization, key=lambda key: key or 0):
        _append_chain(organization_id, by_organization[organization_id], work.now)


def _append_chain(organization_id: int | None, events: list[Event], now: datetime) -> None:
    head_id, position, seq, last_hash = _locked_head(organization_id)
    known = seq
    entries = []
    for event in events:
        position += 1
        seq += bool(event.wire_type)
        entry = _entry(event, now) | {"position": position, "seq": seq if event.wire_type else None}
        entry["previous_hash"] = last_hash
        entry["hash"] = last_hash = hash_of(entry)
        entries.append(entry)
    JournalEntry.objects.insert_each(entries, along_with=(_MOVE, [position, seq, last_hash, head_id]))
    if organization_id is not None:
        tallies.count(organization_id, events, now)
        if seq > known:
            transaction.on_commit(lambda: _announce(organization_id, seq))


def _announce(organization_id: int, seq: int) -> None:
    for receiver, failure in journal_grew.send_robust(sender=JournalEntry, organization_id=organization_id, seq=seq):
        if isinstance(failure, Exception):
            log.warning("announcement_failed", receiver=str(receiver), error=type(failure).__name__)


_LOCK = "SELECT id, position, seq, last_hash FROM pems_sync_journalhead WHERE organization_id = %s FOR UPDATE"
_LOCK_NONE = "SELECT id, position, seq, last_hash FROM pems_sync_journalhead WHERE organization_id IS NULL FOR UPDATE"
_MOVE = "UPDATE pems_sync_journalhead SET position = %s, seq = %s, last_hash = %s WHERE id = %s"


def _locked_head(organization_id: int | None) -> tuple[int, int, int, str]:
    """(id, position, seq, last hash) of the chain. Plain SQL: this runs in every transaction."""
    lock, values = (_LOCK_NONE, []) if organization_id is None else (_LOCK, [organization_id])
    with connection.cursor() as cursor:
        cursor.execute(lock, values)
        head = cursor.fetchone()
        if head is None:
            JournalHead.objects.bulk_create([JournalHead(organization_id=organization_id)], ignore_conflicts=True)
            cursor.execute(lock, values)
            head = cursor.fetchone()
    found: tuple[int, int, int, str] = head
    return found


def _entry(event: Event, now: datetime) -> dict[str, Any]:
    origin = current_origin()
    return {
        "organization": event.organization_id,
        "kind": event.kind,
        "wire_type": event.wire_type,
        "pfa_id": event.pfa_id,
        "modification_id": event.modification_id,
        "actor": event.actor,
        "on_behalf_of": event.on_behalf_of,
        "reason": event.reason,
        "before": event.before,
        "after": event.after,
        "details": event.details(),
        "request_id": origin.request_id,
        "address": origin.address,
        "recorded_at": now,
    }


def hash_of(entry: Mapping[str, Any]) -> str:
    """SHA-256 over an entry's content and its predecessor's hash, as hexadecimal."""
    content = {name: value for name, value in entry.items() if name != "hash"}
    text = json.dumps(content, sort_keys=True, default=_plain, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def content_of(entry: JournalEntry) -> dict[str, Any]:
    """A stored entry as it was hashed."""
    names = {
        field.name: field.attname for field in JournalEntry._meta.concrete_fields if field.name not in ("id", "hash")
    }
    return {name: getattr(entry, attname) for name, attname in names.items()}


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def first_broken(entries: models.QuerySet[JournalEntry]) -> JournalEntry | None:
    """The first entry of a chain, given from its start in order of position, that does not follow its predecessor."""
    previous = "0" * 64
    for position, entry in enumerate(entries.iterator(chunk_size=2000), start=1):
        if entry.position != position or entry.previous_hash != previous or entry.hash != hash_of(content_of(entry)):
            return entry
        previous = entry.hash
    return None
