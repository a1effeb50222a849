"""Dead letters that a person sends again, several at once or one with a correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from pems_sync import validation
from pems_sync.errors import NotFoundError
from pems_sync.fields import FIELDS, Values
from pems_sync.models import Membership, Modification
from pems_sync.models.modification import ModificationQuerySet
from pems_sync.services.drafts import invalid
from pems_sync.services.people import replay_dead_letters
from pems_sync.states import State
from pems_sync.validation import Violation

MOST_IN_ONE_TRANSACTION = 150  # three journal entries each at most
MOST_AT_ONCE = 1000
"""More of one filter are sent again by asking again: each call takes the oldest."""


@dataclass
class Revived:
    """`rejected`: by modification id, why it was left as it is."""

    queued: list[Modification] = field(default_factory=list)
    rejected: dict[UUID, list[dict[str, str]]] = field(default_factory=dict)


def dead_letters(
    membership: Membership, *, reason: str | None = None, fingerprint: str | None = None
) -> ModificationQuerySet:
    rows = Modification.objects.for_organization(membership.organization).filter(state=State.DEAD)
    if reason is not None:
        rows = rows.filter(dead_reason=reason)
    return rows.filter(fingerprint=fingerprint) if fingerprint is not None else rows


def revive(*, membership: Membership, found: ModificationQuerySet, named: Sequence[UUID] | None = None) -> Revived:
    """Queue these dead letters again, in the order in which they were first queued, the oldest `MOST_AT_ONCE` of them.
    One with a field that this person may not edit stays: it would be refused when it is sent."""
    if named is not None:
        found = found.filter(pk__in=named)
    rows = list(found.order_by("queued_at", "pk")[:MOST_AT_ONCE])
    result = Revived(rejected=not_dead(named or (), rows))
    allowed = []
    for row in rows:
        barred = _barred(row.changes, membership)
        if barred:
            result.rejected[row.pk] = [each.as_wire() for each in barred]
        else:
            allowed.append(row.pk)
    for start in range(0, len(allowed), MOST_IN_ONE_TRANSACTION):
        some = allowed[start : start + MOST_IN_ONE_TRANSACTION]
        for row in replay_dead_letters(membership=membership, modification_ids=some, behind=start):
            if row.state == State.WITHDRAWN:
                result.rejected[row.pk] = [_SUPERSEDED]
            else:
                result.queued.append(row)
    return result


_SUPERSEDED = {
    "code": "SUPERSEDED",
    "message": "Later edits changed all of its fields and were confirmed: it was withdrawn, nothing was left to send.",
}


def fix_and_revive(*, membership: Membership, modification_id: UUID, changes: Mapping[str, object]) -> Revived:
    """Correct one dead letter and queue it again. Raises NotFoundError, InvalidChangesError, IllegalTransitionError
    (it may still land as it was)."""
    row = dead_letters(membership).select_related("record").filter(pk=modification_id).first()
    if row is None:
        raise NotFoundError
    values, broken = validation.parse_changes(changes, permissions=frozenset(membership.permissions))
    broken += _broken_rules(row, values) if values and not broken else []
    broken += _barred({**row.changes, **values}, membership)
    if broken or not values:
        raise invalid(broken)
    queued = replay_dead_letters(membership=membership, modification_ids=[row.pk], changes=values)
    return Revived(queued, not_dead([modification_id], queued))


def _broken_rules(row: Modification, values: Values) -> list[Violation]:
    merged = {**row.changes, **values}
    if merged.get("isDiscontinued") is True and len(merged) > 1:
        message = "isDiscontinued must be sent alone: discard this dead letter and make a new edit."
        return [Violation("isDiscontinued", "BUSINESS_RULE_VIOLATION", message, frozenset({"isDiscontinued"}))]
    return validation.split(validation.violations_of(row.record.fields, merged), merged)[0]


def _barred(changes: Mapping[str, object], membership: Membership) -> list[Violation]:
    return [
        Violation(name, "FIELD_NOT_EDITABLE", f"{name} may not be edited by you.", frozenset({name}))
        for name in changes
        if name in FIELDS and FIELDS[name].permission not in membership.permissions
    ]


def not_dead(named: Sequence[UUID], rows: Sequence[Modification]) -> dict[UUID, list[dict[str, str]]]:
    """What was named and is none, for whatever reason: it says nothing about other people's."""
    known = {row.pk for row in rows}
    error = {"code": "NOT_A_DEAD_LETTER", "message": "This is not a dead letter of the organization."}
    return {pk: [error] for pk in dict.fromkeys(named) if pk not in known}
