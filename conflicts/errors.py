"""Why a conflict cannot be decided, or a decision not be taken back."""

from __future__ import annotations

from pems_sync.errors import DomainError


class AlreadyResolvedError(DomainError):
    """Somebody resolved this conflict before you. Reload it to see how."""

    code, status = "CONFLICT_ALREADY_RESOLVED", 409


class RecordGoneError(DomainError):
    """PEMS no longer knows this record, so the edit cannot be sent. Resolve with use_pems."""

    code, status = "RECORD_GONE", 409


class MergeNotAvailableError(DomainError):
    """A soft delete stands or falls as a whole and cannot be merged. Resolve with use_local or use_pems."""

    code, status = "MERGE_NOT_AVAILABLE", 400


class UndoTooLateError(DomainError):
    """This decision can no longer be taken back. Edit the record anew."""

    code, status = "UNDO_TOO_LATE", 409


class TooManyConflictsError(DomainError):
    """These are more conflicts than can be resolved at once. Narrow the filter, or name fewer ids."""

    code, status = "TOO_MANY_CONFLICTS", 400


class InvalidPreviewError(DomainError):
    """This previewToken is not one of yours, or it is older than 15 minutes. Ask for a new preview."""

    code, status = "INVALID_PREVIEW_TOKEN", 400
