"""Re-authorisation at send: the last person who decided must still be allowed to write each field (PROTOCOL.md)."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from pems_sync.fields import FIELDS
from pems_sync.journal import unit_of_work
from pems_sync.models import Membership, Modification
from pems_sync.models.organization import Permission
from pems_sync.services.settlement import Settlement, in_portions
from pems_sync.services.transitions import bury
from pems_sync.states import DeadReason


def bury_unauthorised(rows: Sequence[Modification]) -> list[Modification]:
    """The rows that may still be sent. The others become dead letters that say whose right is gone."""
    if not rows:
        return []
    users = {row.authorised_by_id for row in rows}
    memberships = Membership.objects.filter(user__in=users, user__is_active=True, organization=rows[0].organization_id)
    rights = {each.user_id: frozenset(each.permissions) for each in memberships}
    barred = {row.pk: why for row in rows if (why := _missing(row, rights.get(row.authorised_by_id)))}
    if barred:
        _bury([row for row in rows if row.pk in barred], barred)
    return [row for row in rows if row.pk not in barred]


def _missing(row: Modification, rights: frozenset[str] | None) -> str:
    name = row.authorised_by.username
    if rights is None:
        return f"{name} is no longer an active member of the organization."
    fields = [
        FIELDS[name] for name in row.changes if name in FIELDS
    ]  # the others cannot be encoded, which is told later
    needed = {Permission.SYNC, *(field.permission for field in fields if field.permission)}
    lost = sorted(str(right) for right in needed - rights)
    return f"{name} no longer has the permission {', '.join(lost)}." if lost else ""


@in_portions
def _bury(rows: Sequence[Modification], why: dict[UUID, str]) -> None:
    with unit_of_work() as work:
        settlement = Settlement.open(work, rows)
        for row in settlement.mine:
            message = f"{why[row.pk]} Retry it as somebody who may, or discard it."
            bury(
                settlement.moves,
                row,
                reason=DeadReason.REJECTED,
                code="NOT_AUTHORISED",
                message=message,
                actor="worker",
            )
        settlement.close()
