"""What PEMS no longer shows: given up after two complete, counted sweeps, and never many at once (N2).

A sweep is complete when its last page was reached in one go. It is counted when as many records were seen as PEMS says it
has; where PEMS does not say, when the sweep before saw as many.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import connection

from pems_sync import events
from pems_sync.inbound.applying import bury as bury_some
from pems_sync.journal import UnitOfWork
from pems_sync.models import InboundState, NamedRead, Organization, Record
from pems_sync.services.settlement import portions

log = structlog.get_logger(__name__)

SWEEPS_MISSED = 2
MOST_MISSING = 0.05
"""More than this share of the present records gone at once is a fault of a list, not a fact."""

_MISSED = """
UPDATE pems_sync_record SET missed_sweeps = LEAST(missed_sweeps + 1, 1000)
WHERE organization_id = %s AND deleted_at IS NULL AND NOT EXISTS
    (SELECT 1 FROM unnest(%s::text[]) AS sighted (id) WHERE sighted.id = pfa_id)
"""
_SEEN_AGAIN = """
UPDATE pems_sync_record SET missed_sweeps = 0
WHERE organization_id = %s AND missed_sweeps > 0 AND EXISTS
    (SELECT 1 FROM unnest(%s::text[]) AS sighted (id) WHERE sighted.id = pfa_id)
"""


@dataclass
class Counted:
    """What a sweep that reached the last page amounts to."""

    keys: int
    complete: bool
    said: bool
    """PEMS itself says how many records there are."""
    doomed: list[int]


def count(organization: Organization, sighted: set[str], total: int | None) -> Counted:
    """Counts the sweep on every record it did not show. In the transaction that ends the run, before any other lock."""
    complete = total is None or len(sighted) == total
    if complete:
        with connection.cursor() as cursor:
            for statement in (_MISSED, _SEEN_AGAIN):
                cursor.execute(statement, [organization.pk, list(sighted)])
    return Counted(len(sighted), complete, total is not None, [])


def doubt(organization: Organization, sighted: set[str], *, since: datetime) -> None:
    """Records given up here before the sweep began, which it showed all the same: PEMS said "no such record" when there was
    one. A read of its own decides on each (naming.py): a page proves nothing against a tombstone."""
    buried = Record.objects.for_organization(organization).filter(deleted_at__lt=since).values_list("pfa_id", flat=True)
    doubtful = [NamedRead(organization=organization, pfa_id=pfa_id) for pfa_id in sorted(sighted.intersection(buried))]
    NamedRead.objects.bulk_create(doubtful, ignore_conflicts=True)


def conclude(work: UnitOfWork, state: InboundState, counted: Counted) -> None:
    """Which records are given up now. Fills `doomed`, sets or releases the brake."""
    if not counted.complete:
        log.warning("sweep_not_counted", organization=state.organization.slug, keys=counted.keys)
        return
    agrees = counted.said or counted.keys == state.last_sweep_keys
    state.last_sweep_keys, state.brake = counted.keys, ""
    present = Record.objects.for_organization(state.organization).present()
    missing = list(present.filter(missed_sweeps__gte=SWEEPS_MISSED).order_by("pk").values_list("pk", flat=True))
    if not missing or not agrees:
        return
    if len(missing) > MOST_MISSING * present.count():
        _brake(work, state, len(missing), present.count())
    else:
        counted.doomed = missing


def _brake(work: UnitOfWork, state: InboundState, missing: int, present: int) -> None:
    state.brake = (
        f"{missing} of {present} records were missing in {SWEEPS_MISSED} sweeps: more than {MOST_MISSING:.0%}, so none was "
        f"given up. If they are really gone, `manage.py reconcile {state.organization.slug} --repair` reads each and gives it up."
    )
    log.warning("sweep_braked", organization=state.organization.slug, missing=missing, present=present)
    after = {"missing": missing, "present": present}
    work.record(
        events.SweepBraked(organization_id=state.organization_id, actor="inbound", reason=state.brake, after=after)
    )


def bury(organization: Organization, counted: Counted) -> None:
    """In portions, each a transaction of its own. What a crash leaves out, the next sweep finds."""
    for portion in portions(counted.doomed, record_id=lambda key: key, own_entries=1):
        bury_some(portion)
    if counted.doomed:
        log.info("records_given_up", organization=organization.slug, count=len(counted.doomed))
