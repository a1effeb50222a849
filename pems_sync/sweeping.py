"""What keeps moving when messages are lost: expired leases go back, bells are rung again, reads are asked for (D3, D5)."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Exists, OuterRef, Q

from pems_sync import conserving, dispatch, scheduling
from pems_sync.clock import database_now
from pems_sync.inbound import asking
from pems_sync.models import Connection, Modification, Record
from pems_sync.models.modification import ModificationQuerySet
from pems_sync.services.crashing import return_expired
from pems_sync.states import State

READS_AT_ONCE = 4
"""Per connection, so that reading back never takes every place of the control worker."""
PROOFS_AT_ONCE = 100
ASK_AGAIN_AFTER = timedelta(seconds=15)


def sweep() -> None:
    """Cheap when there is nothing to do. Two sweeps at once do no harm: the second finds nothing."""
    return_expired()
    for connection_id in scheduling.due_connections():
        dispatch.ring(connection_id)
    ask_for_proofs()
    ask_for_reads()
    ask_for_pulls()
    ask_for_the_count()


def ask_for_proofs() -> None:
    """Rows of one lost batch are proven together, others one by one."""
    now = database_now()
    provable = Modification.objects.provable(now).filter(organization__restored_at=None)
    for connection in Connection.objects.filter(Exists(provable.filter(organization__connection=OuterRef("pk")))):
        if scheduling.may_read(connection, now):
            _ask(provable.filter(organization__connection=connection), READS_AT_ONCE - _being_read(connection, now))


def _ask(due: ModificationQuerySet, most: int) -> None:
    groups: dict[object, list[Modification]] = defaultdict(list)
    for row in due.select_related("organization").order_by("not_before")[:PROOFS_AT_ONCE]:
        groups[(row.organization_id, row.unknown_since)].append(row)
    for rows in list(groups.values())[: max(0, most)]:
        ids: list[UUID] = [row.pk for row in rows]
        dispatch.prove(ids, shown=f"{rows[0].organization.code} {rows[0].pfa_id} +{len(ids) - 1}")


def _being_read(connection: Connection, now: datetime) -> int:
    waiting = Q(state=State.UNKNOWN) | ~Q(read_back_for="")
    under_way = Modification.objects.filter(waiting, organization__connection=connection, lease_until__gt=now)
    return under_way.values("unknown_since").distinct().count()


def ask_for_reads() -> None:
    """Records confirmed without being shown; asked for again when nothing came of it."""
    now = database_now()
    due = Record.objects.filter(read_due_at__lte=now).select_related("organization").order_by("read_due_at")
    for record in due[:READS_AT_ONCE]:
        Record.objects.filter(pk=record.pk, read_due_at=record.read_due_at).update(read_due_at=now + ASK_AGAIN_AFTER)
        dispatch.refresh(record.pk, shown=f"{record.organization.code} {record.pfa_id}")


def ask_for_pulls() -> None:
    """Each organization when its minute has come round, and those with records that webhooks named."""
    for organization in asking.due():
        if asking.take_turn(organization):
            dispatch.pull(organization.pk, shown=organization.code)
    for organization in asking.with_names():
        dispatch.read_named(organization.pk, shown=organization.code)


def ask_for_the_count() -> None:
    """Once a minute: is every accepted edit still there (I2)? Rung until somebody has counted; the second finds it done."""
    if conserving.due(database_now()):
        dispatch.conserve()
