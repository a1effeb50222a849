"""Celery's side of the engine: each task is a few lines that call it. Arguments are ids only; the rows are the truth."""

from __future__ import annotations

from uuid import UUID

import structlog
from celery import shared_task

from pems_sync import crashpoints, delivery, inbound, proof, scheduling, sweeping
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.models import Modification, Record
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
    """Beat, every second: expired leases, lost bells, due proofs."""
    sweeping.sweep()
