"""Who may open a socket: by ticket from anywhere, by session cookie only from our own pages."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie
from django.http.request import split_domain_port, validate_host

from pems_sync.models import Organization
from realtime import standing, tickets
from realtime.close_codes import CloseCode, RefusedError
from realtime.reading import last_seqs
from realtime.tickets import Visitor

Scope = dict[str, Any]


@dataclass(frozen=True)
class Caller:
    """What a handshake says about who calls. `ticket` None: none was given."""

    ticket: str | None
    session_key: str
    origin: str
    host: str


@dataclass(frozen=True)
class Admission:
    """`seq`: the organization's last socket event at this moment."""

    visitor: Visitor
    seq: int


def caller_of(scope: Scope) -> Caller:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("ticket")
    return Caller(
        ticket=None if given is None else given[0] if len(given) == 1 else "",
        session_key=parse_cookie(headers.get(b"cookie", "")).get(settings.SESSION_COOKIE_NAME, ""),
        origin=headers.get(b"origin", ""),
        host=headers.get(b"host", ""),
    )


def admit(caller: Caller, slug: str) -> Admission:
    """Raises RefusedError. A ticket is used up even when it turns out not to be for this organization."""
    organization_id = Organization.objects.filter(slug=slug).values_list("id", flat=True).first()
    visitor = _by_session(caller, organization_id) if caller.ticket is None else _by_ticket(caller.ticket)
    if organization_id is None or visitor.organization_id != organization_id:
        raise RefusedError(CloseCode.NOT_ALLOWED)
    if lost := standing.fallen([visitor]).get(visitor):
        raise RefusedError(lost)
    return Admission(visitor, last_seqs([organization_id]).get(organization_id, 0))


def _by_ticket(ticket: str) -> Visitor:
    visitor = tickets.redeem(ticket)
    if visitor is None:
        raise RefusedError(CloseCode.NOT_SIGNED_IN)
    return visitor


def _by_session(caller: Caller, organization_id: int | None) -> Visitor:
    """Browsers send the cookie along from any page: only `Origin` tells whose page it is (S5)."""
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(caller.session_key or None)
    user = get_user(request)
    if user.pk is None or not user.is_active:
        raise RefusedError(CloseCode.NOT_SIGNED_IN)
    if not _is_own_page(caller.origin, caller.host):
        raise RefusedError(CloseCode.NOT_ALLOWED)
    return Visitor(user.pk, organization_id or 0, session_key=caller.session_key)


def _is_own_page(origin: str, host: str) -> bool:
    """The page came from the host it now calls, or from one in CSRF_TRUSTED_ORIGINS."""
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    domain, _ = split_domain_port(host)
    own = bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
    return own and origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
