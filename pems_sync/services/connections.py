"""The connection's own troubles: what the breaker learns of each request, resting, pausing on refused credentials, and
remembering a missing batch call."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import structlog
from django.conf import settings

from pems_sync import events, scheduling
from pems_sync.client.base import Fault, FaultKind, Outcome, ReadFailed, Unknown
from pems_sync.client.breaker import Seen
from pems_sync.client.secrets import SecretsUnavailableError, secrets
from pems_sync.clock import database_now
from pems_sync.journal import unit_of_work
from pems_sync.models import Connection, Organization
from pems_sync.models.organization import Breaker
from pems_sync.services import breaking

log = structlog.get_logger(__name__)

BATCH_ABSENT_FOR = timedelta(hours=1)
FAULT_WAIT_SECONDS = 1.0
"""Of the rows of a failed request, and of everybody after one that did not reach PEMS, until the breaker opens."""
_MARGIN_SECONDS = 5.0


def let_through(connection: Connection, *, within_seconds: float) -> bool:
    """Before a read that takes its slot within this time: whether it may go. While the breaker is not closed one read at a
    time goes ahead as the canary, and only where no edit can go in its place; `connection` then says so until its outcome
    is told, or it is given back."""
    connection.refresh_from_db(fields=breaking.FIELDS)
    if breaking.state_of(connection) is Breaker.CLOSED:
        return True
    if not breaking.lets_through(connection, database_now()) or scheduling.anything_to_send(connection):
        return False
    patience_seconds = within_seconds + float(settings.PEMS_REQUEST_TIMEOUT) + _MARGIN_SECONDS
    return breaking.take_canary(connection, uuid4(), patience_seconds=patience_seconds)


def unread(connection: Connection, failed: ReadFailed) -> None:
    """A read without a fault that found nothing."""
    if failed.answered:
        answered(connection)
    else:
        breaking.saw(connection, Seen.FAILED, failed.message.partition(":")[0])  # what follows may be a value


def replied(connection: Connection, outcomes: tuple[Outcome, ...]) -> None:
    """What came of a write that was sent. Nothing in it could be understood: then PEMS did not answer."""
    if all(isinstance(outcome, Unknown) for outcome in outcomes):
        first = outcomes[0]
        breaking.saw(connection, Seen.FAILED, first.cause if isinstance(first, Unknown) else "")
    else:
        answered(connection)


def answered(connection: Connection) -> None:
    """PEMS spoke, whatever it said."""
    breaking.saw(connection, Seen.ANSWERED)


def faulted(connection: Connection, fault: Fault) -> float:
    """Note a fault. Returns the seconds its rows shall wait; the connection rests where that is right.

    Credentials and address: paused until a person resumes (D12). Throttled: everybody honours Retry-After (D11), and the
    breaker takes it for the answer it is. Unavailable: honoured as well. Unreachable: rests a second.
    """
    wait = FAULT_WAIT_SECONDS if fault.retry_after_seconds is None else fault.retry_after_seconds
    if fault.kind in (FaultKind.CREDENTIALS, FaultKind.ADDRESS):
        breaking.give_back(connection)
        _pause(connection, fault)
        return FAULT_WAIT_SECONDS
    breaking.saw(connection, _SEEN[fault.kind], fault.message)
    if fault.kind is not FaultKind.UNAVAILABLE or fault.retry_after_seconds is not None:
        rest(connection, seconds=wait, reason=fault.message)
    return max(wait, FAULT_WAIT_SECONDS)


_SEEN = {
    FaultKind.THROTTLED: Seen.ANSWERED,
    FaultKind.UNAVAILABLE: Seen.FAILED,
    FaultKind.UNREACHABLE: Seen.UNREACHED,
}


def rest(connection: Connection, *, seconds: float, reason: str) -> None:
    """Nothing is claimed for this connection until then. Never shortens a rest."""
    until = database_now() + timedelta(seconds=seconds)
    rows = Connection.objects.filter(pk=connection.pk)
    rows.exclude(held_until__gt=until).update(held_until=until, held_reason=reason[:500])


def _pause(connection: Connection, fault: Fault) -> None:
    if fault.kind is FaultKind.CREDENTIALS and _rotated(connection):
        return
    reason = f"{fault.message}. Nothing is sent until the connection is put right and resumed."
    with unit_of_work() as work:
        fresh = Connection.objects.filter(pk=connection.pk, paused_at=None)
        if fresh.update(paused_at=work.now, paused_reason=reason[:500]):
            log.error("connection_paused", connection=connection.slug, reason=reason)
            for organization in Organization.objects.filter(connection=connection):
                work.record(events.QueuePaused(organization_id=organization.pk, actor="worker", reason=reason[:500]))


def _rotated(connection: Connection) -> bool:
    """Whether the secrets backend holds other credentials than those just refused."""
    try:
        return secrets().refresh(connection.secret_name)
    except SecretsUnavailableError:
        return False


def batch_is_absent(connection: Connection) -> None:
    """Single writes only, for an hour."""
    Connection.objects.filter(pk=connection.pk).update(batch_absent_until=database_now() + BATCH_ABSENT_FOR)
