"""Opens and closes conflicts inside the transaction of the engine that says so. Raising here undoes that transaction."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver
from django.utils import timezone

from conflicts.models import Conflict, Resolution
from conflicts.sides import pattern_of, side_by_side
from pems_sync.events import FoundWritten, ModificationConflicted, ModificationWithdrawn
from pems_sync.journal import event_recorded


@receiver(event_recorded, sender=ModificationConflicted)
def open_conflict(event: ModificationConflicted, **_: Any) -> None:
    """One open conflict per modification (K8)."""
    fields = [side_by_side(name, event.base, event.ours, event.theirs) for name in event.fields]
    Conflict.objects.create(
        id=event.conflict_id,
        organization_id=event.organization_id,
        modification_id=event.modification_id,
        pfa_id=event.pfa_id,
        kind=event.conflict_kind,
        pems_version=event.pems_version,
        fields=fields,
        field_names=list(event.fields),
        pattern=pattern_of(event.conflict_kind, fields),
        theirs_at=event.theirs_at,
    )


@receiver(event_recorded, sender=ModificationWithdrawn)
def close_with_its_modification(event: ModificationWithdrawn, **_: Any) -> None:
    """A withdrawn edit leaves nothing to decide. A resolution by use_pems has closed its conflict already."""
    open_ones = Conflict.objects.unresolved().filter(modification_id=event.modification_id)
    open_ones.update(resolved_at=timezone.now(), resolution=Resolution.WITHDRAWN)


@receiver(event_recorded, sender=FoundWritten)
def close_what_was_decided_already(event: FoundWritten, **_: Any) -> None:
    """After a restore: the decision is lost with the journal, PEMS shows what it was."""
    for conflict in Conflict.objects.unresolved().filter(modification_id=event.modification_id):
        conflict.resolved_at, conflict.resolution = timezone.now(), Resolution.USE_LOCAL
        conflict.comment = "Decided after the backup that was restored: PEMS shows these values."
        conflict.decided = {field["name"]: field["ours"] for field in conflict.fields}
        conflict.save(update_fields=["resolved_at", "resolution", "comment", "decided"])
