"""Many conflicts resolved alike: first a preview, then exactly what it showed. What changed in between is skipped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.core import signing
from django.utils import timezone
from django.utils.crypto import salted_hmac

from conflicts.errors import (
    AlreadyResolvedError,
    InvalidPreviewError,
    MergeNotAvailableError,
    TooManyConflictsError,
)
from conflicts.freshness import Standing, is_current, refreshed
from conflicts.models import Conflict, Resolution
from conflicts.services import Decision, needs_second, outcome_of, resolve
from pems_sync.errors import ApprovalNeededError, ConflictMovedError, DomainError
from pems_sync.fields import Values
from pems_sync.models import Membership
from pems_sync.validation import Violation

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 500
VALID_FOR = timedelta(minutes=15)
_SALT = "conflicts.bulk"
_CHANGED = "changed since the preview"
_RESOLVED = "resolved since the preview"


@dataclass(frozen=True)
class Selection:
    """Open conflicts of one organization: those named, or all that have each of these. `author`: a username."""

    ids: Sequence[UUID] | None = None
    field: str = ""
    kind: str = ""
    pattern: str = ""
    author: str = ""

    def of(self, membership: Membership) -> list[Conflict]:
        """Oldest first. Raises TooManyConflictsError."""
        rows = Conflict.objects.unresolved().filter(organization=membership.organization).matching(
            field=self.field, kind=self.kind, pattern=self.pattern, author=self.author
        )  # fmt: skip
        if self.ids is not None:
            rows = rows.filter(pk__in=self.ids)
        found = list(rows.with_what_it_is_about().order_by("opened_at", "pk")[: MOST_AT_ONCE + 1])
        if len(found) > MOST_AT_ONCE:
            raise TooManyConflictsError
        return found


@dataclass(frozen=True)
class Item:
    """What would happen to one conflict. `problems`: why it would be refused; `needs_approval`: another person is asked."""

    conflict: Conflict
    changes: Values
    problems: list[Violation] = field(default_factory=list)
    needs_approval: bool = False


@dataclass(frozen=True)
class Preview:
    """`skipped`: ids that were named and are no open conflicts here, with the reason."""

    resolution: Resolution
    items: list[Item]
    skipped: dict[UUID, str]
    token: str
    expires_at: datetime


@dataclass
class BulkResult:
    """`skipped`: by id, the reason; `failed`: by id, code and sentence of what refused it."""

    applied: list[UUID] = field(default_factory=list)
    skipped: dict[UUID, str] = field(default_factory=dict)
    failed: dict[UUID, tuple[str, str]] = field(default_factory=dict)


def preview(*, membership: Membership, selection: Selection, resolution: Resolution) -> Preview:
    """Nothing is decided. Raises TooManyConflictsError, MergeNotAvailableError."""
    if resolution not in (Resolution.USE_LOCAL, Resolution.USE_PEMS):
        raise MergeNotAvailableError("Conflicts are merged one by one. In bulk, resolve with use_local or use_pems.")
    wanted = Decision(membership, resolution)
    items = [_item(each, wanted) for each in selection.of(membership)]
    known = {item.conflict.pk for item in items}
    skipped = {pk: "no open conflict of this organization" for pk in selection.ids or () if pk not in known}
    return Preview(resolution, items, skipped, _token(membership, resolution, items), timezone.now() + VALID_FOR)


def _item(conflict: Conflict, wanted: Decision) -> Item:
    """As it stands now: one that PEMS moved is brought up to date before it is shown."""
    record = conflict.modification.record
    if not is_current(conflict, record):
        conflict = refreshed(conflict)
    try:
        outcome = outcome_of(Standing(record, conflict.modification, conflict), wanted)
    except DomainError as error:
        return Item(conflict, {}, _problems(error))
    return Item(conflict, outcome.changes, [], needs_second(record, outcome.changes, wanted.membership))


def _problems(error: DomainError) -> list[Violation]:
    """Field by field where it is about fields, else the one sentence about the whole."""
    broken = (error.details or {}).get("fields") or [{"field": "", "code": error.code, "message": error.message}]
    return [Violation(each["field"], each["code"], each["message"], frozenset()) for each in broken]


def _token(membership: Membership, resolution: Resolution, items: Sequence[Item]) -> str:
    shown = {str(each.conflict.pk): _digest(each.conflict) for each in items}
    content = {"by": membership.user_id, "in": membership.organization_id, "how": resolution, "shown": shown}
    return signing.dumps(content, salt=_SALT, compress=True)


def _digest(conflict: Conflict) -> str:
    """Everything a person saw of it. Keyed, as the token can be read by people who may not see amounts."""
    row = conflict.modification
    seen = [conflict.pems_version, conflict.kind, conflict.fields, row.changes, str(row.pk)]
    return salted_hmac(_SALT, json.dumps(seen, sort_keys=True), algorithm="sha256").hexdigest()[:20]


@dataclass(frozen=True)
class Promise:
    """What a token holds: by conflict id, the digest of what was shown."""

    resolution: Resolution
    shown: dict[UUID, str]


def promised(*, membership: Membership, token: str) -> Promise:
    """Raises InvalidPreviewError for a token that is forged, too old, or another person's or organization's."""
    try:
        content: Mapping[str, Any] = signing.loads(token, salt=_SALT, max_age=VALID_FOR)
    except (signing.BadSignature, ValueError) as error:
        raise InvalidPreviewError from error
    if (content["by"], content["in"]) != (membership.user_id, membership.organization_id):
        raise InvalidPreviewError
    return Promise(Resolution(content["how"]), {UUID(pk): digest for pk, digest in content["shown"].items()})


def apply(*, membership: Membership, token: str, only: Sequence[UUID] | None = None, comment: str = "") -> BulkResult:
    """Each in a transaction of its own: what fails leaves the others alone. `only`: fewer than were shown. Raises
    InvalidPreviewError."""
    promise, result = promised(membership=membership, token=token), BulkResult()
    wanted = list(promise.shown) if only is None else list(dict.fromkeys(only))
    rows = Conflict.objects.filter(organization=membership.organization).with_what_it_is_about().in_bulk(wanted)
    for pk in wanted:
        reason = _changed(rows.get(pk), promise.shown.get(pk))
        if reason:
            result.skipped[pk] = reason
        else:
            _resolve_one(rows[pk], promise.resolution, membership, comment, result)
    return result


def _changed(conflict: Conflict | None, digest: str | None) -> str:
    """Why it is not what was shown; empty when it is."""
    if digest is None or conflict is None:
        return "not in the preview"
    if conflict.resolved_at is not None:
        return _RESOLVED
    same = digest == _digest(conflict) and is_current(conflict, conflict.modification.record)
    return "" if same else _CHANGED


def _resolve_one(
    conflict: Conflict, resolution: Resolution, membership: Membership, comment: str, result: BulkResult
) -> None:
    try:
        resolve(
            membership=membership, conflict=conflict, resolution=resolution,
            seen_pems_version=conflict.pems_version, comment=comment,
        )  # fmt: skip
        result.applied.append(conflict.pk)
    except ConflictMovedError:
        result.skipped[conflict.pk] = _CHANGED
    except AlreadyResolvedError:
        result.skipped[conflict.pk] = _RESOLVED
    except ApprovalNeededError as error:
        result.skipped[conflict.pk] = error.message
    except DomainError as error:
        result.failed[conflict.pk] = (error.code, error.message)
    except Exception:
        log.exception("bulk_resolution_failed", conflict=str(conflict.pk))
        result.failed[conflict.pk] = ("INTERNAL_ERROR", "A defect of ours stopped this one; nothing was decided.")
