"""Rows as they are shown on the wire. `money`: whether the reader may see amounts; without, they are null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pems_sync.api.wire import stamp, status_of
from pems_sync.fields import MONEY_FIELDS, Values
from pems_sync.models import Membership, Modification, Record
from pems_sync.models.organization import Permission


def sees_money(membership: Membership) -> bool:
    return membership.allows(Permission.VIEW_FINANCIALS)


def shown_values(values: Mapping[str, Any], *, money: bool) -> Values:
    return dict(values) if money else {name: None if name in MONEY_FIELDS else each for name, each in values.items()}


def shown_document(document: Any, *, money: bool) -> Any:
    """A stored request, answer or journal entry: amounts are hidden at any depth, text that may contain them whole."""
    if money or document is None or isinstance(document, bool | int | float):
        return document
    if isinstance(document, Mapping):
        if document.get("name") in MONEY_FIELDS:  # one field of a conflict: {name, base, ours, theirs, group}
            return {key: each if key in ("name", "group") else None for key, each in document.items()}
        return {
            name: None if name in MONEY_FIELDS else shown_document(each, money=money) for name, each in document.items()
        }
    if isinstance(document, list):
        return [shown_document(each, money=money) for each in document]
    return "(hidden)" if any(name in document for name in MONEY_FIELDS) else document


def shown_text(text: str, *, about: str, money: bool) -> str:
    """A sentence of PEMS or of the machine, hidden where it may repeat an amount. `about`: the field it speaks of."""
    return "(hidden)" if not money and about in MONEY_FIELDS else str(shown_document(text, money=money))


def record_shape(
    record: Record, *, draft: Modification | None, latest: Modification | None, money: bool
) -> dict[str, Any]:
    """The stored record with my open draft laid over it. `latest`: the modification whose status it shows."""
    return {
        "pfaId": record.pfa_id,
        "organizationId": record.organization.slug,
        "version": record.version,
        "fields": shown_values({**record.fields, **(draft.changes if draft else {})}, money=money),
        "masked": not money,
        "draft": draft_shape(draft, money=money) if draft else None,
        "syncStatus": status_of(latest) if latest else "synced",
        "modificationId": str(latest.pk) if latest else None,
        "updatedAt": stamp(record.changed_at),
        "updatedBy": record.changed_by or None,
        "verified": record.read_due_at is None,
        "deletedAt": stamp(record.deleted_at),
    }


def draft_shape(draft: Modification, *, money: bool) -> dict[str, Any]:
    return {
        "modificationId": str(draft.pk),
        "pfaId": draft.pfa_id,
        "changes": shown_values(draft.changes, money=money),
        "masked": not money,
        "baseVersion": draft.base_version,
        "status": status_of(draft),
        "reason": draft.reason,
        "atRisk": list(draft.at_risk),
        "atRiskValues": [_at_risk(draft, name, money=money) for name in draft.at_risk],
        "savedAt": stamp(draft.saved_at),
    }


def _at_risk(draft: Modification, name: str, *, money: bool) -> dict[str, Any]:
    """What the planner started from, and what PEMS holds now: null where it no longer knows the record."""
    record, hidden = draft.record, not money and name in MONEY_FIELDS
    theirs = None if record.deleted_at else record.fields.get(name)
    values = {"base": draft.base.get(name), "ours": draft.changes.get(name, draft.base.get(name)), "theirs": theirs}
    return {"name": name, **(dict.fromkeys(values) if hidden else values), "masked": hidden}


def modification_shape(row: Modification, *, money: bool, conflict_id: str | None = None) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "pfaId": row.pfa_id,
        "organizationId": row.organization.slug,
        "status": status_of(row),
        "operation": row.operation,
        "changes": shown_values(row.changes, money=money),
        "masked": not money,
        "reason": row.reason,
        "author": row.author.username,
        "priority": row.priority,
        "baseVersion": row.base_version,
        "expectedVersion": row.expected_version,
        "newVersion": row.confirmed_version,
        "createdAt": stamp(row.created_at),
        "savedAt": stamp(row.saved_at),
        "queuedAt": stamp(row.queued_at),
        "finishedAt": stamp(row.finished_at),
        "jobId": str(row.job_id) if row.job_id else None,
        "attempts": row.attempts,
        "nextAttemptAt": stamp(row.not_before),
        "error": error_shape(row, money=money),
        "mayStillLand": row.exposed or row.may_still_land,
        "supersededBy": str(row.superseded_by_id) if row.superseded_by_id else None,
        "conflictId": conflict_id,
        "autoMerged": row.auto_merged,
        "adjusted": shown_values(row.adjusted, money=money),
    }


def error_shape(row: Modification, *, money: bool) -> dict[str, Any] | None:
    """What went wrong last: what PEMS said of a dead letter, or why it is tried again."""
    if not row.error_message and not row.error_code:
        return None
    return {
        "reason": row.dead_reason,
        "code": row.error_code or None,
        "message": shown_text(row.error_message, about=row.error_field, money=money),
        "field": row.error_field or None,
    }
