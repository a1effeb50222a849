"""Errors a caller can act on. The docstring is the default message; `code` and `status` are what the API shows."""

from __future__ import annotations

from typing import Any, ClassVar


class DomainError(Exception):
    """The request cannot be carried out."""

    code: ClassVar[str] = "BAD_REQUEST"
    status: ClassVar[int] = 400

    def __init__(self, message: str | None = None, *, details: Any = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.details = details
        super().__init__(self.message)


class NotFoundError(DomainError):
    """There is no such thing, or it is not yours to see."""

    code, status = "NOT_FOUND", 404


class ForbiddenError(DomainError):
    """Your membership does not allow this."""

    code, status = "FORBIDDEN", 403


class InvalidChangesError(DomainError):
    """Some fields cannot be saved as they are; `details` says which and why."""

    code, status = "INVALID_CHANGES", 400


class UnknownVersionError(DomainError):
    """baseVersion is not a version of this record that was seen here. Reload the record and try again."""

    code, status = "UNKNOWN_BASE_VERSION", 400


class StaleBaseError(DomainError):
    """The record changed in PEMS in a field you edit. `details.record` is how it stands now."""

    code, status = "STALE_BASE", 409


class IllegalTransitionError(DomainError):
    """That is not possible in the state the modification is in now."""

    code, status = "ILLEGAL_TRANSITION", 409


class IdempotencyMismatchError(DomainError):
    """This Idempotency-Key was used with another body. Use a new key for a new request."""

    code, status = "IDEMPOTENCY_KEY_REUSED", 409


class RequestInProgressError(DomainError):
    """The same request is being carried out right now. Ask again in a moment."""

    code, status = "REQUEST_IN_PROGRESS", 409


class ConflictMovedError(DomainError):
    """PEMS changed the record again since you looked. `details.conflict` has the new values."""

    code, status = "CONFLICT_MOVED", 409


class PemsUnavailableError(DomainError):
    """PEMS did not answer."""

    code, status = "PEMS_UNAVAILABLE", 503


class PullUnderWayError(DomainError):
    """This organization is being pulled already. It is done in a moment."""

    code, status = "PULL_UNDER_WAY", 409


class ApprovalNeededError(DomainError):
    """Another person must agree first, because a large amount would change. It is kept until they do."""

    code, status = "APPROVAL_PENDING", 202


class ApprovalOpenError(DomainError):
    """Somebody has asked for another person's approval of this already, and nobody has decided yet."""

    code, status = "APPROVAL_OPEN", 409


class AlreadyDecidedError(DomainError):
    """Somebody decided this before you. Reload it to see how."""

    code, status = "ALREADY_DECIDED", 409


class OwnRequestError(DomainError):
    """You asked for this yourself, so another person has to decide it."""

    code, status = "FORBIDDEN", 403
