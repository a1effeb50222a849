"""A planner edits: one open draft per author and record, each field with the base it was changed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pems_sync import events, validation
from pems_sync.drift import base_for, moved_fields
from pems_sync.errors import DomainError, InvalidChangesError, NotFoundError, StaleBaseError, UnknownVersionError
from pems_sync.fields import Values, with_partners
from pems_sync.journal import UnitOfWork, deadlock_retried, unit_of_work
from pems_sync.models import Membership, Modification, Record
from pems_sync.models.modification import Operation
from pems_sync.records import values_at
from pems_sync.services.moves import Moves
from pems_sync.services.transitions import subject, withdraw
from pems_sync.validation import Violation


@dataclass(frozen=True)
class DraftInput:
    """What a planner sends for one record. `changes` are raw values by field name."""

    pfa_id: str
    changes: Mapping[str, object]
    base_version: int
    reason: str = ""


@dataclass(frozen=True)
class SavedDraft:
    modification: Modification
    warnings: list[Violation]


def save_draft(*, membership: Membership, wanted: DraftInput) -> SavedDraft:
    """Merge into my open draft of that record. Raises NotFoundError, InvalidChangesError, UnknownVersionError,
    StaleBaseError (the record moved in a field or group I edit)."""
    result = save_drafts(membership=membership, wanted=[wanted])[0]
    if isinstance(result, DomainError):
        raise result
    return result


@deadlock_retried
def save_drafts(*, membership: Membership, wanted: Sequence[DraftInput]) -> list[SavedDraft | DomainError]:
    """Each on its own, in order: what fails is returned as its error and leaves the others alone."""
    with unit_of_work() as work:
        records = _records(membership, [item.pfa_id for item in wanted])
        drafts = _open_drafts(membership, records)
        desk = _Desk(work, membership, records, drafts)
        results = [desk.save(item) for item in wanted]
        desk.write()
    return results


def _records(membership: Membership, pfa_ids: Sequence[str]) -> dict[str, Record]:
    """Locked, so that no draft is made on a base that moves meanwhile."""
    rows = Record.objects.for_organization(membership.organization).present().filter(pfa_id__in=set(pfa_ids))
    return {row.pfa_id: row for row in rows.order_by("pk").select_for_update(of=("self",))}


def _open_drafts(membership: Membership, records: Mapping[str, Record]) -> dict[str, Modification]:
    rows = Modification.objects.drafts().filter(author=membership.user, record__in=list(records.values()))
    drafts = {row.pfa_id: row for row in rows.locked()}
    for row in drafts.values():  # known already; as joins they would double the time of the query
        row.author, row.organization = membership.user, membership.organization
    return drafts


@dataclass
class _Desk:
    """Where the drafts of one request are merged before they are written together."""

    work: UnitOfWork
    membership: Membership
    records: Mapping[str, Record]
    drafts: dict[str, Modification]

    def __post_init__(self) -> None:
        self.moves = Moves(self.work)
        self.fresh: list[Modification] = []

    def save(self, item: DraftInput) -> SavedDraft | DomainError:
        try:
            return self._save(item)
        except DomainError as error:
            return error

    def _save(self, item: DraftInput) -> SavedDraft:
        record = self.records.get(item.pfa_id)
        if record is None:
            raise NotFoundError
        changes, broken = validation.parse_changes(item.changes, permissions=frozenset(self.membership.permissions))
        if broken or not changes:
            raise invalid(broken)
        base = _base(record, changes, item.base_version)
        draft = self.drafts.get(item.pfa_id)
        merged = {**(draft.changes if draft else {}), **changes}
        errors, warnings = _check(record, merged)
        if errors:
            raise invalid(errors)
        return SavedDraft(self._merge(record, draft, item, merged, base, changes), warnings)

    def _merge(
        self, record: Record, draft: Modification | None, item: DraftInput, merged: Values, base: Values, sent: Values
    ) -> Modification:
        if draft is None:
            draft = self.drafts[item.pfa_id] = self._new(record, item)
            self.fresh.append(draft)
        before = dict(draft.changes)
        draft.changes = merged
        draft.operation = Operation.DELETE if merged == {"isDiscontinued": True} else Operation.UPDATE
        draft.base = {**draft.base, **base}  # a field sent again takes its base anew, the others keep theirs
        draft.at_risk = list(moved_fields(draft.base, record.fields))
        draft.base_version = item.base_version
        draft.expected_version = draft.expected_version if draft.at_risk else record.version
        draft.reason = item.reason or draft.reason
        draft.saved_at = self.work.now
        self.work.record(
            events.DraftSaved(
                **subject(draft, draft.author.username), reason=draft.reason, before=before, after=dict(merged)
            )
        )
        if draft not in self.fresh:
            self.moves.keep(draft)
        return draft

    def _new(self, record: Record, item: DraftInput) -> Modification:
        return Modification(
            organization=self.membership.organization,
            record=record,
            pfa_id=record.pfa_id,
            author=self.membership.user,
            authorised_by=self.membership.user,
            changes={},
            base={},
            base_version=item.base_version,
            expected_version=record.version,
        )

    def write(self) -> None:
        Modification.objects.bulk_create(self.fresh)
        Modification.objects.all().update_each(
            [
                {"pk": row.pk, **{name: getattr(row, name) for name in _DRAFTED}}
                for row in self.moves.rows.values()
                if isinstance(row, Modification)
            ]
        )


_DRAFTED = ("changes", "operation", "base", "base_version", "expected_version", "at_risk", "reason", "saved_at")


def _base(record: Record, changes: Values, base_version: int) -> Values:
    """The values the planner saw. Raises UnknownVersionError; StaleBaseError when one of them has moved since."""
    seen = values_at(record, base_version) if base_version <= record.version else None
    if seen is None:
        raise UnknownVersionError
    base = base_for(changes, seen)
    mine = with_partners(set(changes))
    moved = [name for name in moved_fields(base, record.fields) if name in mine]
    if moved:
        raise StaleBaseError(details={"fields": moved, "record": record})
    return base


def _check(record: Record, changes: Values) -> tuple[list[Violation], list[Violation]]:
    if changes.get("isDiscontinued") is True and len(changes) > 1:
        message = "isDiscontinued must be sent alone: discard the other changes of your draft first."
        return [Violation("isDiscontinued", "BUSINESS_RULE_VIOLATION", message, frozenset({"isDiscontinued"}))], []
    return validation.split(validation.violations_of(record.fields, changes), changes)


def invalid(violations: Sequence[Violation]) -> InvalidChangesError:
    fields: list[dict[str, Any]] = [violation.as_wire() for violation in violations]
    if not fields:
        return InvalidChangesError("There is nothing to change: `changes` is empty.", details={"fields": []})
    names = ", ".join(dict.fromkeys(violation.field for violation in violations))
    return InvalidChangesError(f"These fields cannot be saved as they are: {names}.", details={"fields": fields})


@deadlock_retried
def discard_drafts(*, membership: Membership, pfa_id: str | None = None) -> int:
    """Throw away my draft of one record, or all of mine in the organization. How many there were. Raises NotFoundError."""
    with unit_of_work() as work:
        mine = Modification.objects.drafts().filter(organization=membership.organization, author=membership.user)
        rows = list((mine.filter(pfa_id=pfa_id) if pfa_id else mine).select_related("author", "organization").locked())
        if pfa_id and not rows:
            raise NotFoundError("You have no draft of this record.")
        moves = Moves(work)
        for row in rows:
            withdraw(moves, row, actor=membership.user.username, reason="draft discarded")
        moves.flush()
    return len(rows)
