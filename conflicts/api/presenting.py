"""A conflict as it is shown on the wire. `money`: whether the reader may see amounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conflicts.approving import open_approvals
from conflicts.bulk import BulkResult, Item, Preview
from conflicts.models import Conflict
from conflicts.undoing import undoable_until
from pems_sync.api.presenting import shown_values
from pems_sync.api.wire import stamp
from pems_sync.fields import MONEY_FIELDS
from pems_sync.models import Approval


def conflict_shapes(conflicts: Sequence[Conflict], *, money: bool) -> list[dict[str, Any]]:
    approvals = open_approvals(each.pk for each in conflicts)
    return [_shape(each, approvals.get(str(each.pk)), money=money) for each in conflicts]


def conflict_shape(conflict: Conflict, *, money: bool) -> dict[str, Any]:
    return conflict_shapes([conflict], money=money)[0]


def _shape(conflict: Conflict, approval: Approval | None, *, money: bool) -> dict[str, Any]:
    return {
        "id": str(conflict.pk),
        "pfaId": conflict.pfa_id,
        "organizationId": conflict.organization.slug,
        "kind": conflict.kind,
        "status": "resolved" if conflict.resolved_at else "unresolved",
        "pemsVersion": conflict.pems_version,
        "modificationId": str(conflict.modification_id),
        "author": conflict.modification.author.username,
        "reason": conflict.modification.reason,
        "fields": [_field(field, money=money) for field in conflict.fields],
        "pattern": conflict.pattern,
        "masked": not money,
        "openedAt": stamp(conflict.opened_at),
        "theirsAt": stamp(conflict.theirs_at),
        "resolvedAt": stamp(conflict.resolved_at),
        "resolvedBy": conflict.resolved_by.username if conflict.resolved_by else None,
        "resolution": conflict.resolution or None,
        "comment": conflict.comment or None,
        "decided": shown_values(conflict.decided, money=money) if conflict.decided is not None else None,
        "undoableUntil": stamp(undoable_until(conflict)),
        "approval": _approval(approval) if approval else None,
    }


def _field(field: dict[str, Any], *, money: bool) -> dict[str, Any]:
    hidden = not money and field["name"] in MONEY_FIELDS
    values = {side: None if hidden else field[side] for side in ("base", "ours", "theirs")}
    return {"name": field["name"], **values, "group": field["group"], "masked": hidden}


def _approval(approval: Approval) -> dict[str, Any]:
    return {"id": str(approval.pk), "askedBy": approval.asked_by.username, "askedAt": stamp(approval.asked_at)}


def preview_shape(shown: Preview, *, money: bool) -> dict[str, Any]:
    return {
        "items": [_item(each, shown, money=money) for each in shown.items],
        "skipped": [{"id": str(pk), "reason": reason} for pk, reason in shown.skipped.items()],
        "count": len(shown.items),
        "previewToken": shown.token,
        "expiresAt": stamp(shown.expires_at),
    }


def _item(item: Item, shown: Preview, *, money: bool) -> dict[str, Any]:
    return {
        "conflictId": str(item.conflict.pk),
        "pfaId": item.conflict.pfa_id,
        "pemsVersion": item.conflict.pems_version,
        "resolution": shown.resolution,
        "fields": [_field(field, money=money) for field in item.conflict.fields],
        "changes": shown_values(item.changes, money=money),
        "problems": [each.as_wire() for each in item.problems],
        "needsApproval": item.needs_approval,
    }


def result_shape(result: BulkResult) -> dict[str, Any]:
    return {
        "applied": [str(pk) for pk in result.applied],
        "skipped": [{"id": str(pk), "reason": reason} for pk, reason in result.skipped.items()],
        "failed": [{"id": str(pk), "error": code, "message": said} for pk, (code, said) in result.failed.items()],
    }
