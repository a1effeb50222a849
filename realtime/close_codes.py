"""Why a socket is closed, as the client sees it."""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    NOT_SIGNED_IN = 4401
    """No session, or a ticket that is wrong, used or old; also when the session or the token ends."""
    NOT_ALLOWED = 4403
    """Not a member, or no longer one; a user that was deactivated; a page of another site."""
    TOO_SLOW = 4408
    """The client does not read what it is sent."""
    TOO_MANY = 4429
    """Messages of this socket, or sockets of this user."""
    RESTARTED = 1012
    """The journal went back to an earlier state (a restore): connect and fetch again."""
    TRY_LATER = 1013
    """PostgreSQL or Redis does not answer."""


class RefusedError(Exception):
    """The socket may not be opened."""

    def __init__(self, code: CloseCode) -> None:
        self.code = code
        super().__init__(code.name)
