"""A person's decision carried out through the service, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from conflicts.admin.forms import DecisionForm
from conflicts.admin.wording import moment
from conflicts.errors import AlreadyResolvedError
from conflicts.models import Conflict, Resolution
from conflicts.services import resolve
from pems_sync.errors import ApprovalNeededError, ConflictMovedError, DomainError, InvalidChangesError
from pems_sync.models import Membership


@dataclass(frozen=True)
class Applied:
    """Decided: the person goes on with the next conflict. `undoable`: not what waits for another person."""

    sentence: str
    undoable: bool = True


@dataclass(frozen=True)
class Moved:
    """PEMS moved: the same page again, with the values as they are now."""

    conflict: Conflict


@dataclass(frozen=True)
class TooLate:
    """Somebody was faster."""

    sentence: str


@dataclass(frozen=True)
class Refused:
    sentence: str
    troubles: list[str] = field(default_factory=list)


Fate = Applied | Moved | TooLate | Refused


def carry_out(conflict: Conflict, form: DecisionForm, membership: Membership) -> Fate:
    """`form` is valid."""
    said = form.cleaned_data
    try:
        resolved = resolve(
            membership=membership, conflict=conflict, resolution=Resolution(said["resolution"]),
            seen_pems_version=said["seen_pems_version"], comment=said["comment"], merged_data=form.chosen,
        )  # fmt: skip
    except ConflictMovedError as moved:
        return Moved(moved.details["conflict"])
    except AlreadyResolvedError:
        return TooLate(how_it_was_resolved(conflict))
    except ApprovalNeededError as waiting:
        return Applied(f"{conflict.pfa_id}: {waiting.message}", undoable=False)
    except InvalidChangesError as refused:
        return Refused(refused.message, [each["message"] for each in refused.details["fields"]])
    except DomainError as refused:
        return Refused(refused.message)
    return Applied(f"{conflict.pfa_id}: {_fate(resolved.conflict, requeued=resolved.requeued)}")


def how_it_was_resolved(conflict: Conflict) -> str:
    fresh = Conflict.objects.select_related("resolved_by").get(pk=conflict.pk)
    who = fresh.resolved_by.get_username() if fresh.resolved_by else "the withdrawal of the edit"
    how = f" with {RESOLUTIONS.get(fresh.resolution, fresh.resolution)}" if fresh.resolved_by else ""
    return f"This conflict was resolved by {who}{how}, {moment(fresh.resolved_at)}. Nothing was done now."


RESOLUTIONS = {
    Resolution.USE_LOCAL.value: "“use ours”",
    Resolution.USE_PEMS.value: "“use PEMS's”",
    Resolution.MERGE.value: "“merge field by field”",
    Resolution.WITHDRAWN.value: "withdrawal of the edit",
}


def _fate(conflict: Conflict, *, requeued: bool) -> str:
    how = RESOLUTIONS[conflict.resolution]
    sent = "the edit is queued again" if requeued else "PEMS's record stays as it is"
    return f"resolved with {how}; {sent}."
