"""The connection's own troubles: resting after faults, pausing on refused credentials, remembering a missing batch call."""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.db.models import F

from pems_sync import events
from pems_sync.client.base import Fault, FaultKind
from pems_sync.client.secrets import SecretsUnavailableError, secrets
from pems_sync.clock import database_now
from pems_sync.journal import unit_of_work
from pems_sync.models import Connection, Organization
from pems_sync.retry import fault_delay_seconds

log = structlog.get_logger(__name__)

BATCH_ABSENT_FOR = timedelta(hours=1)


def answered(connection: Connection) -> None:
    """PEMS spoke: a series of faults is over."""
    if connection.fault_streak:
        Connection.objects.filter(pk=connection.pk).update(fault_streak=0, held_until=None, held_reason="")
        connection.fault_streak = 0


def faulted(connection: Connection, fault: Fault) -> float:
    """Note a fault. Returns the seconds its rows shall wait; the connection rests where that is right.

    Credentials and address: paused until a person resumes (D12). Throttled: everybody honours Retry-After (D11).
    Unreachable: rests 1, 2, 4, 5 … seconds. Unavailable: rests for its Retry-After, or from the third in a row on.
    """
    if fault.kind in (FaultKind.CREDENTIALS, FaultKind.ADDRESS):
        _pause(connection, fault)
        return 1.0
    Connection.objects.filter(pk=connection.pk).update(fault_streak=F("fault_streak") + 1)
    connection.refresh_from_db(fields=["fault_streak"])
    wait = (
        fault.retry_after_seconds
        if fault.retry_after_seconds is not None
        else fault_delay_seconds(connection.fault_streak)
    )
    brief = fault.kind is FaultKind.UNAVAILABLE and fault.retry_after_seconds is None and connection.fault_streak < 3
    if not brief:
        rest(connection, seconds=wait, reason=fault.message)
    return max(wait, 1.0)


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
