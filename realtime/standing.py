"""Whose right to listen has ended. Asked for all sockets of the process at once, with at most three queries."""

from __future__ import annotations

from collections.abc import Collection

from django.contrib.sessions.models import Session
from django.db.models import Q
from django.utils import timezone
from knox.models import AuthToken

from pems_sync.models import Membership
from pems_sync.models.organization import Permission
from realtime.close_codes import CloseCode
from realtime.tickets import Visitor


def fallen(visitors: Collection[Visitor]) -> dict[Visitor, CloseCode]:
    """Those whose proof (token, session) or membership is gone, and the code to close their sockets with."""
    members = _members(visitors)
    tokens = _valid_tokens({visitor.token_digest for visitor in visitors} - {""})
    sessions = _valid_sessions({visitor.session_key for visitor in visitors} - {""})
    found = {}
    for visitor in visitors:
        if visitor.token_digest not in tokens or visitor.session_key not in sessions:
            found[visitor] = CloseCode.NOT_SIGNED_IN
        elif (visitor.organization_id, visitor.user_id) not in members:
            found[visitor] = CloseCode.NOT_ALLOWED
    return found


def _members(visitors: Collection[Visitor]) -> set[tuple[int, int]]:
    """The same rule as `pems_sync.access.memberships_of`, for many users."""
    readers = Membership.objects.filter(
        organization_id__in={visitor.organization_id for visitor in visitors},
        user_id__in={visitor.user_id for visitor in visitors},
        user__is_active=True,
        permissions__contains=[Permission.READ],
    )
    return set(readers.values_list("organization_id", "user_id"))


def _valid_tokens(digests: set[str]) -> set[str]:
    if not digests:
        return {""}
    lasting = Q(expiry=None) | Q(expiry__gt=timezone.now())
    return {"", *AuthToken.objects.filter(lasting, digest__in=digests).values_list("digest", flat=True)}


def _valid_sessions(keys: set[str]) -> set[str]:
    if not keys:
        return {""}
    lasting = Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    return {"", *lasting.values_list("session_key", flat=True)}
