"""A conflict as it is shown on the wire. `money`: whether the reader may see amounts."""

from __future__ import annotations

from typing import Any

from conflicts.models import Conflict
from pems_sync.api.wire import stamp
from pems_sync.fields import MONEY_FIELDS


def conflict_shape(conflict: Conflict, *, money: bool) -> dict[str, Any]:
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
        "masked": not money,
        "openedAt": stamp(conflict.opened_at),
        "resolvedAt": stamp(conflict.resolved_at),
        "resolvedBy": conflict.resolved_by.username if conflict.resolved_by else None,
        "resolution": conflict.resolution or None,
        "comment": conflict.comment or None,
    }


def _field(field: dict[str, Any], *, money: bool) -> dict[str, Any]:
    hidden = not money and field["name"] in MONEY_FIELDS
    values = {side: None if hidden else field[side] for side in ("base", "ours", "theirs")}
    return {"name": field["name"], **values, "group": field["group"], "masked": hidden}
