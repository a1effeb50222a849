"""Does the queue move? D5: stuck is what is due, may be sent, could have been for two minutes, and nobody took up.

"Could have been for two minutes" matters: a rest, a pause or a window that has just ended, a conflict just resolved and a row
that has just come back make old edits due at once, and the next pump takes them up. Asked per connection, of which there are
few; rows are looked at by the partial index of what is sendable.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Max, Q

from pems_sync import scheduling
from pems_sync.models import Connection, JournalEntry, Modification, Organization
from pems_sync.models.organization import Breaker
from pems_sync.states import State

STUCK_AFTER = timedelta(minutes=2)
LOOKS = 4
ROWS_LOOKED_AT = 100
LAST_ENTRIES = 1000
_COMES_BEHIND = ("draft_saved", "draft_discarded", "draft_at_risk", "modification_queued")
"""Events of a record that free no edit committed before."""


def not_held_back() -> Q:
    """Modifications of organizations that are neither paused nor waiting for a look at PEMS after a restore."""
    return Q(organization__paused_at=None, organization__restored_at=None)


def sending_connections(now: datetime) -> list[Connection]:
    return [each for each in Connection.objects.prefetch_related("organizations") if scheduling.may_send(each, now)]


def is_stuck(now: datetime) -> bool:
    return any(_is_stuck(each, now) for each in sending_connections(now))


def _is_stuck(connection: Connection, now: datetime) -> bool:
    since = now - STUCK_AFTER
    claimed = Organization.objects.filter(connection=connection).aggregate(at=Max("claimed_at"))["at"]
    if claimed is not None and claimed > since:
        return False
    overdue = Modification.objects.sendable(since).filter(
        not_held_back(), organization__connection=connection, queued_at__lte=since
    )
    rows = list(overdue.order_by("rank_at")[:ROWS_LOOKED_AT])
    if not rows or _just_opened(connection, since, now) or _sends(connection, now):
        return False
    return any(not _just_freed(row, since) for row in rows)


def _just_opened(connection: Connection, since: datetime, now: datetime) -> bool:
    """It might not send all the time: a rest, a pause, a window, the breaker."""
    if connection.breaker_since is not None and connection.breaker_since > since:
        return True
    if any(_has_resumed(each, since) for each in connection.organizations.all()):
        return True
    between = (since + STUCK_AFTER * number / LOOKS for number in range(LOOKS))
    return connection.breaker != Breaker.CLOSED or not all(scheduling.may_send(connection, at) for at in between)


def _sends(connection: Connection, now: datetime) -> bool:
    """Something is under way: a PEMS that takes minutes to answer is slow, not stuck. Leases end."""
    rows = Modification.objects.filter(organization__connection=connection, state=State.SENDING, lease_until__gt=now)
    return rows.exists()


def _has_resumed(organization: Organization, since: datetime) -> bool:
    """By the last entries of its journal, which has no index by time. One organization's resume lifts the connection's
    pause, so it counts for all."""
    last = JournalEntry.objects.filter(organization=organization).order_by("-position")[:LAST_ENTRIES]
    return any(kind == "queue_resumed" and at > since for kind, at in last.values_list("kind", "recorded_at"))


def _just_freed(row: Modification, since: datetime) -> bool:
    """It came back, or to the head of its lane, since: what frees an edit is in the journal of its record."""
    entries = JournalEntry.objects.filter(organization=row.organization_id, pfa_id=row.pfa_id)
    recorded: datetime | None = (
        entries.exclude(kind__in=_COMES_BEHIND).order_by("-position").values_list("recorded_at", flat=True).first()
    )
    return recorded is not None and recorded > since
