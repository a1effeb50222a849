"""Celery's side of the engine: each task is a few lines that call it. Arguments are ids only; the rows are the truth.

While a fleet is upgraded, workers get messages of releases before and after their own: see `bell`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any
from uuid import UUID

import structlog
from celery import current_task, shared_task

from pems_sync import conserving, crashpoints, delivery, inbound, proof, reconciling, scheduling, sweeping
from pems_sync.client.pace import PaceUnavailableError
from pems_sync.client.secrets import SecretsUnavailableError
from pems_sync.dispatch import MESSAGE_VERSION, VERSION_HEADER
from pems_sync.errors import DomainError
from pems_sync.inbound import asking, naming
from pems_sync.models import Modification, Organization, Record
from pems_sync.services import crashing

log = structlog.get_logger(__name__)


def bell(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A task that carries out messages of its own version and before, and leaves newer ones alone: their arguments may
    mean something else, and the sweep rings again for the row. A keyword it does not know only adds to the message."""

    def made(work: Callable[..., None]) -> Callable[..., None]:
        known = signature(work).parameters

        @wraps(work)
        def heard(*arguments: Any, **keywords: Any) -> None:
            version = _version_of_this_message()
            if not isinstance(version, int) or version > MESSAGE_VERSION:
                log.warning("bell_of_a_newer_release", task=name, version=str(version), understood=MESSAGE_VERSION)
                return
            if unknown := sorted(keywords.keys() - known):
                log.info("bell_says_more", task=name, unknown=unknown)
            work(*arguments, **{word: keywords[word] for word in keywords if word in known})

        task: Callable[..., None] = shared_task(name=name)(heard)
        return task

    return made


def _version_of_this_message() -> object:
    headers = (current_task.request.headers if current_task else None) or {}
    return headers.get(VERSION_HEADER, 1)


@bell("pems_sync.pump")
def pump(connection_id: int) -> None:
    """Look for something to send on this connection."""
    scheduling.pump(connection_id)


@bell("pems_sync.deliver")
def deliver(delivery_id: str) -> None:
    """Send one claim."""
    crashpoints.reached("task_received")
    delivery.deliver(UUID(delivery_id))


@bell("pems_sync.prove")
def prove(modification_ids: list[str]) -> None:
    """Read PEMS back for rows whose outcome is unknown."""
    proof.prove([UUID(each) for each in modification_ids])


@bell("pems_sync.refresh")
def refresh(record_id: int) -> None:
    """Read one record that was confirmed without being shown."""
    record = Record.objects.select_related("organization__connection").get(pk=record_id)
    try:
        inbound.refresh(record)
    except (SecretsUnavailableError, PaceUnavailableError) as error:
        log.warning("refresh_put_off", record=record.pfa_id, error=str(error))


@bell("pems_sync.pull")
def pull(organization_id: int) -> None:
    """What changed in PEMS, or every record when the sweep is due."""
    _put_off_when_unavailable(asking.answer, organization_id)


@bell("pems_sync.read_named")
def read_named(organization_id: int) -> None:
    """Read the records that webhooks named."""
    _put_off_when_unavailable(naming.read_named, organization_id)


@bell("pems_sync.reconcile")
def reconcile(organization_id: int) -> None:
    """Once a week: is everything here as PEMS has it?"""
    _put_off_when_unavailable(reconciling.look_once, organization_id)


def _put_off_when_unavailable(work: Callable[[Organization], object], organization_id: int) -> None:
    organization = Organization.objects.select_related("connection").get(pk=organization_id)
    try:
        work(organization)
    except (DomainError, SecretsUnavailableError, PaceUnavailableError) as error:
        log.warning("inbound_put_off", organization=organization.slug, error=str(error))


@bell("pems_sync.conserve")
def conserve() -> None:
    """Once a minute: is every accepted edit accounted for (I2)?"""
    conserving.check_if_due()


@bell("pems_sync.dead_letter")
def dead_letter(modification_id: str) -> None:
    """Tell operators. The row holds everything; this message is what they see in Flower and the log."""
    row = Modification.objects.select_related("organization").get(pk=modification_id)
    log.warning(
        "dead_letter", organization=row.organization.slug, pfa_id=row.pfa_id, modification=modification_id,
        reason=row.dead_reason, code=row.error_code, fingerprint=row.fingerprint,
    )  # fmt: skip


@bell("pems_sync.worker_lost")
def worker_lost(delivery_id: str) -> None:
    """A child of a write worker died with this delivery in hand."""
    crashing.return_lost(UUID(delivery_id))


@bell("pems_sync.sweep")
def sweep() -> None:
    """Beat, every second: expired leases, lost bells, due proofs, due pulls."""
    sweeping.sweep()
