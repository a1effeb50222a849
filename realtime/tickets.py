"""One-time tickets: how a client that cannot send an Authorization header with its socket proves who it is.

Kept in Redis under the hash of the ticket, so that a look into Redis gives nobody a ticket. Redeeming deletes.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from typing import Any, cast

from pems_sync.store import redis_store

LIFE_SECONDS = 30


@dataclass(frozen=True)
class Visitor:
    """Who opened a socket, where, and by what proof. The socket ends when that proof does."""

    user_id: int
    organization_id: int
    token_digest: str = ""  # of the bearer token that signed them in
    session_key: str = ""  # or of the session


def issue(visitor: Visitor) -> str:
    """A ticket for this visitor. Raises redis.RedisError."""
    ticket = secrets.token_urlsafe(32)
    redis_store().set(_key(ticket), json.dumps(asdict(visitor)), ex=LIFE_SECONDS)
    return ticket


def redeem(ticket: str) -> Visitor | None:
    """The visitor, once; None for a ticket that is wrong, used or old. Raises redis.RedisError."""
    kept = cast(bytes | None, redis_store().getdel(_key(ticket)))
    if kept is None:
        return None
    fields: dict[str, Any] = json.loads(kept)
    return Visitor(**fields)


def _key(ticket: str) -> str:
    return f"pems-sync:ticket:{hashlib.sha256(ticket.encode(errors='replace')).hexdigest()}"
