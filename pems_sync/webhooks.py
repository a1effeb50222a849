"""PEMS says what has changed: who says so is proven by a signature, how often does not matter (S9, PEMS_GATEWAY.md)."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets as chance
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import transaction

from pems_sync import crashpoints
from pems_sync.client.secrets import SecretsUnavailableError, secrets
from pems_sync.clock import database_now
from pems_sync.errors import DomainError
from pems_sync.inbound.naming import note_names
from pems_sync.models import Connection, Organization, WebhookEvent

log = structlog.get_logger(__name__)

WINDOW = timedelta(minutes=5)
REMEMBERED = timedelta(hours=1)
"""How long an event id is kept: well beyond the window in which its signature is taken."""


class WebhookRefusedError(DomainError):
    """This is not signed as agreed, or not in time."""

    code, status = "WEBHOOK_REFUSED", 401


@dataclass(frozen=True)
class Notice:
    """What an event says."""

    event_id: str
    event: str
    organization_code: str
    pfa_ids: Sequence[str]


def sender_of(slug: str, *, timestamp: str, signature: str, body: bytes) -> Connection:
    """The connection whose PEMS signed these bytes within the last five minutes. Raises WebhookRefusedError, the same for
    an unknown connection, a forged or a stale event: only the log says which."""
    connection = Connection.objects.filter(slug=slug).first()
    expected = _signature(_secret_of(connection), timestamp, body)
    genuine = hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))
    if connection is None or not genuine:
        raise _refused(slug, "unknown connection" if connection is None else "forged")
    if not is_fresh(timestamp, database_now()):
        raise _refused(slug, "stale")
    return connection


def is_fresh(timestamp: str, now: datetime) -> bool:
    """Signed at most five minutes ago, or ahead: clocks differ both ways."""
    if not re.fullmatch(r"[0-9]{1,12}", timestamp, re.ASCII):
        return False
    return abs(now.timestamp() - int(timestamp)) <= WINDOW.total_seconds()


def _secret_of(connection: Connection | None) -> str:
    """Without a secret nothing can be genuine; what takes its place is known to nobody."""
    try:
        known = secrets().fetch(connection.secret_name).webhook_secret if connection else ""
    except SecretsUnavailableError as error:
        log.error("webhook_without_secret", error=str(error))
        known = ""
    return known or chance.token_hex(32)


def _signature(secret: str, timestamp: str, body: bytes) -> str:
    signed = f"{timestamp}.".encode(errors="replace") + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _refused(slug: str, reason: str) -> WebhookRefusedError:
    log.warning("webhook_refused", connection=slug[:64], reason=reason)
    return WebhookRefusedError()


def take_in(connection: Connection, notice: Notice) -> bool:
    """Note which records are to be read. False for an event that was taken in before: it changes nothing. Codes of
    organizations that are not this connection's are ignored, and so are events that speak of something else."""
    with transaction.atomic():
        _, is_new = WebhookEvent.objects.get_or_create(connection=connection, event_id=notice.event_id)
        if is_new and notice.event == "pfa.changed":
            for organization in Organization.objects.filter(connection=connection, code=notice.organization_code):
                note_names(organization, notice.pfa_ids)
        crashpoints.reached("before_note_commit", *notice.pfa_ids)
    crashpoints.reached("after_note_commit", *notice.pfa_ids)
    WebhookEvent.objects.filter(received_at__lt=database_now() - REMEMBERED).delete()
    return is_new
