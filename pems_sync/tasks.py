"""Celery's side of the engine: each task is a few lines that call it. Arguments are ids only; the rows are the truth."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import structlog
from celery import shared_task

from pems_sync import crashpoints, delivery, inbound, proof, reconciling, scheduling, sweeping
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.errors import DomainError
from pems_sync.inbound import asking, naming
from pems_sync.models import Modification, Organization, Record
from pems_sync.services import crashing

log = structlog.get_logger(__name__)


@shared_task(name="pems_sync.pump")
def pump(connection_id: int) -> None:
    """Look for something to send on this connection."""
    scheduling.pump(connection_id)


@shared_task(name="pems_sync.deliver")
def deliver(delivery_id: str) -> None:
    """Send one claim."""
    crashpoints.reached("task_received")
    delivery.deliver(UUID(delivery_id))


@shared_task(name="pems_sync.prove")
def prove(modification_ids: list[str]) -> None:
    """Read PEMS back for rows whose outcome is unknown."""
    proof.prove([UUID(each) for each in modification_ids])


@shared_task(name="pems_sync.refresh")
def refresh(record_id: int) -> None:
    """Read one record that was confirmed without being shown."""
    record = Record.objects.select_related("organization__connection").get(pk=record_id)
    try:
        inbound.refresh(record)
    except (SecretsUnavailableError, PaceUnavailableError) as error:
        log.warning("refresh_put_off", record=record.pfa_id, error=str(error))


@shared_task(name="pems_sync.pull")
def pull(organization_id: int) -> None:
    """What changed in PEMS, or every record when the sweep is due."""
    _put_off_when_unavailable(asking.answer, organization_id)


@shared_task(name="pems_sync.read_named")
def read_named(organization_id: int) -> None:
    """Read the records that webhooks named."""
    _put_off_when_unavailable(naming.read_named, organization_id)


@shared_task(name="pems_sync.reconcile")
def reconcile(organization_id: int) -> None:
    """Once a week: is everything here as PEMS has it?"""
    _put_off_when_unavailable(reconciling.look_once, organization_id)


def _put_off_when_unavailable(work: Callable[[Organization], object], organization_id: int) -> None:
    organization = Organization.objects.select_related("connection").get(pk=organization_id)
    try:
        work(organization)
    except (DomainError, SecretsUnavailableError, PaceUnavailableError) as error:
        log.warning("inbound_put_off", organization=organization.slug, error=str(error))


@shared_task(name="pems_sync.dead_letter")
def dead_letter(modification_id: str) -> None:
    """Tell operators. The row holds everything; this message is what they see in Flower and the log."""
    row = Modification.objects.select_related("organization").get(pk=modification_id)
    log.warning(
        "dead_letter", organization=row.organization.slug, pfa_id=row.pfa_id, modification=modification_id,
        reason=row.dead_reason, code=row.error_code, fingerprint=row.fingerprint,
    )  # fmt: skip


@shared_task(name="pems_sync.worker_lost")
def worker_lost(delivery_id: str) -> None:
    """A child of a write worker died with this delivery in hand."""
    crashing.return_lost(UUID(delivery_id))


@shared_task(name="pems_sync.sweep")
def sweep() -> None:
    """Beat, every second: expired leases, lost bells, due proofs, due pulls."""
    sweeping.sweep()
