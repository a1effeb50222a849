"""The breaker of a connection as its row tells it: opened, tried by one canary at a time, closed, or as a person orders (D10).

A `connection` given here is as it was when its request was let through: what comes of a request begun before the breaker
last changed says nothing any more. Each change is one conditional update, so that of many workers one makes it.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from random import SystemRandom
from typing import Any
from uuid import UUID

import structlog
from django.db.models import Q, QuerySet
from redis.exceptions import RedisError

from pems_sync import dispatch, events
from pems_sync.client import breaker
from pems_sync.client.breaker import Seen
from pems_sync.client.connect import counting_for, pace_for
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.clock import database_now
from pems_sync.journal import UnitOfWork, unit_of_work
from pems_sync.models import Connection, Organization
from pems_sync.models.organization import Breaker, BreakerOverride
from pems_sync.store import redis_store

log = structlog.get_logger(__name__)

FIELDS = (
    "breaker", "breaker_since", "breaker_reason", "breaker_probe_at", "breaker_canary", "breaker_trips",
    "breaker_override", "breaker_override_reason",
)  # fmt: skip
ORDERS = {"open": BreakerOverride.OPEN, "closed": BreakerOverride.CLOSED, "auto": BreakerOverride.NONE}
"""As people give them."""
UNSENT_SECONDS = 1.0
SLOW_START = timedelta(seconds=breaker.SLOW_START_SECONDS)
_CHANCE = SystemRandom()


def state_of(connection: Connection) -> Breaker:
    """As it acts: a person's order before the machine's finding."""
    if connection.breaker_override == BreakerOverride.NONE:
        return Breaker(connection.breaker)
    return Breaker.OPEN if connection.breaker_override == BreakerOverride.OPEN else Breaker.CLOSED


def lets_through(connection: Connection, now: datetime, *, canary: UUID | None = None) -> bool:
    """Whether a request may go. While it is not closed: whether one may become the canary, or `canary` is the one."""
    state = state_of(connection)
    if state is Breaker.CLOSED:
        return True
    if connection.breaker_override == BreakerOverride.OPEN:
        return False
    if canary is not None:
        return state is Breaker.HALF_OPEN and connection.breaker_canary == canary
    return connection.breaker_probe_at is None or connection.breaker_probe_at <= now


def is_starting_slowly(connection: Connection, now: datetime) -> bool:
    """It closed a moment ago."""
    since = connection.breaker_since
    return connection.breaker == Breaker.CLOSED and since is not None and now - since < SLOW_START


def letting_through(now: object, *, prefix: str = "") -> Q:
    """As `lets_through`, for queries. `prefix` leads to the connection."""

    def each(**conditions: Any) -> Q:
        return Q(**{f"{prefix}{name}": value for name, value in conditions.items()})

    due = each(breaker_probe_at=None) | each(breaker_probe_at__lte=now)
    by_machine = each(breaker_override=BreakerOverride.NONE) & (each(breaker=Breaker.CLOSED) | due)
    return each(breaker_override=BreakerOverride.CLOSED) | by_machine


def take_canary(connection: Connection, canary: UUID, *, patience_seconds: float) -> bool:
    """The one request that goes ahead. False: another has. One that is not heard of within the patience, because its
    worker died, makes way for the next."""
    now = database_now()
    free = _mine(connection).exclude(breaker=Breaker.CLOSED)
    return _changed(
        connection, free.filter(Q(breaker_probe_at=None) | Q(breaker_probe_at__lte=now)),
        breaker=Breaker.HALF_OPEN, breaker_since=now, breaker_canary=canary,
        breaker_probe_at=now + timedelta(seconds=patience_seconds),
    )  # fmt: skip


def prolong_canary(connection: Connection, *, patience_seconds: float) -> None:
    """It is about to be sent, and is waited for until then."""
    if connection.breaker == Breaker.HALF_OPEN:
        _mine(connection).update(breaker_probe_at=database_now() + timedelta(seconds=patience_seconds))


def give_back(connection: Connection) -> None:
    """The canary was not sent after all: another may go in a second. Nothing, when its outcome is known."""
    if connection.breaker == Breaker.HALF_OPEN:
        now = database_now()
        next_at = now + timedelta(seconds=UNSENT_SECONDS)
        _changed(
            connection, _mine(connection),
            breaker=Breaker.OPEN, breaker_since=now, breaker_probe_at=next_at, breaker_canary=None,
        )  # fmt: skip
        dispatch.ring(connection.pk, in_seconds=UNSENT_SECONDS)


def saw(connection: Connection, seen: Seen, why: str = "") -> None:
    """What came of a request. `why`: of a failure, for people. An answer costs no query while it is closed."""
    if seen is Seen.ANSWERED:
        _answered(connection)
    elif not _mine(connection).exists():
        return  # it changed meanwhile
    elif connection.breaker == Breaker.CLOSED:
        counts = counting_for(connection).count(seen)
        if breaker.opens(counts):
            _open(connection, f"{counts.failed} of {counts.failed + counts.answered} requests in 10 s: {why}")
    elif connection.breaker == Breaker.HALF_OPEN:
        _open_again(connection, why)


def _answered(connection: Connection) -> None:
    if connection.breaker == Breaker.CLOSED:
        counting_for(connection).count(Seen.ANSWERED)
    elif connection.breaker == Breaker.HALF_OPEN or connection.breaker_override == BreakerOverride.CLOSED:
        _close(connection)


def _mine(connection: Connection) -> QuerySet[Connection]:
    """The row, if its breaker is still as this request found it."""
    return Connection.objects.filter(
        pk=connection.pk, breaker=connection.breaker, breaker_since=connection.breaker_since,
        breaker_canary=connection.breaker_canary,
    )  # fmt: skip


def _changed(connection: Connection, rows: QuerySet[Connection], **values: Any) -> bool:
    """One conditional update. Only who made it sees it in the row at hand: to all others it is as they found it."""
    if not rows.update(**values):
        return False
    for name, value in values.items():
        setattr(connection, name, value)
    return True


def _open(connection: Connection, reason: str) -> None:
    pause = breaker.pause_seconds(0, chance=_CHANCE.random())
    with unit_of_work() as work:
        opened = _changed(
            connection, _mine(connection),
            breaker=Breaker.OPEN, breaker_since=work.now, breaker_reason=reason[:500], breaker_trips=0,
            breaker_probe_at=work.now + timedelta(seconds=pause), breaker_canary=None,
        )  # fmt: skip
        if opened:
            _tell(work, connection, events.BreakerOpened, "worker", reason)
    if opened:
        log.error("breaker_opened", connection=connection.slug, reason=reason)
        _count_opening(connection)
        dispatch.ring(connection.pk, in_seconds=pause)


def _open_again(connection: Connection, why: str) -> None:
    """The canary was lost: longer. Told by the row alone, an outage of hours has hundreds of them."""
    lost = connection.breaker_trips + 1
    pause, now = breaker.pause_seconds(lost, chance=_CHANCE.random()), database_now()
    opened = _changed(
        connection, _mine(connection),
        breaker=Breaker.OPEN, breaker_since=now, breaker_reason=why[:500], breaker_trips=lost,
        breaker_probe_at=now + timedelta(seconds=pause), breaker_canary=None,
    )  # fmt: skip
    if opened:
        dispatch.ring(connection.pk, in_seconds=pause)


def _close(connection: Connection) -> None:
    start_slowly(connection)  # before anybody may claim at the full pace
    counting_for(connection).forget()
    with unit_of_work() as work:
        closed = _changed(
            connection, _mine(connection),
            breaker=Breaker.CLOSED, breaker_since=work.now, breaker_reason="", breaker_trips=0,
            breaker_probe_at=None, breaker_canary=None,
        )  # fmt: skip
        if closed:
            _tell(work, connection, events.BreakerClosed, "worker", "PEMS answers again")
    if closed:
        log.info("breaker_closed", connection=connection.slug)
        dispatch.ring(connection.pk)


def start_slowly(connection: Connection) -> None:
    with suppress(PaceUnavailableError):  # a pace without Redis lets nobody send
        pace_for(connection).slow_start()


def order(connection: Connection, *, order: BreakerOverride, reason: str, actor: str) -> None:
    """A person's order stands until another; `NONE` leaves it to the machine, which has gone on counting."""
    if order is not BreakerOverride.OPEN and state_of(connection) is not Breaker.CLOSED:
        start_slowly(connection)
    with unit_of_work() as work:
        row = Connection.objects.select_for_update().get(pk=connection.pk)
        before = {"breaker": state_of(row), "order": row.breaker_override}
        row.breaker_override, row.breaker_override_reason = order, reason[:500] if order else ""
        row.save(update_fields=["breaker_override", "breaker_override_reason"])
        after = {"breaker": state_of(row), "order": row.breaker_override}
        for organization in Organization.objects.filter(connection=row).order_by("pk"):
            work.record(
                events.BreakerOverridden(
                    organization_id=organization.pk, actor=actor, reason=reason[:500], before=before, after=after
                )
            )
    connection.refresh_from_db(fields=FIELDS)
    dispatch.ring(connection.pk)


def _tell(
    work: UnitOfWork, connection: Connection, kind: type[events.BreakerOpened | events.BreakerClosed],
    actor: str, reason: str,
) -> None:  # fmt: skip
    """Each organization of the connection finds it in its own audit."""
    for organization in Organization.objects.filter(connection=connection).order_by("pk"):
        work.record(kind(organization_id=organization.pk, actor=actor, reason=reason[:500]))


def _opened_key(connection: Connection) -> str:
    return f"pems-sync:breaker-opened:{connection.slug}"


def _count_opening(connection: Connection) -> None:
    with suppress(RedisError):
        redis_store().incr(_opened_key(connection))


def openings(connections: list[Connection]) -> list[int] | None:
    """How often each opened since Redis began to count. None without Redis."""
    try:
        found = redis_store().mget([_opened_key(each) for each in connections]) if connections else []
    except RedisError:
        return None
    return [int(each or 0) for each in found]
