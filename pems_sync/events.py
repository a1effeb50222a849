"""What happened, in frozen past-tense dataclasses. The closed set `Event` is the engine's news.

Each becomes one journal entry. Those with a `wire_type` are also numbered for the sockets; their `details()` carry
no field values (API.md, Socket).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, TypedDict
from uuid import UUID

from pems_sync.fields import Value


class Subject(TypedDict):
    """The part of an event that says whose modification it is about."""

    organization_id: int
    pfa_id: str
    modification_id: UUID
    actor: str
    on_behalf_of: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """`actor`: a username, or the name of the process that acted. `organization_id` None: belongs to no organization."""

    kind: ClassVar[str]
    wire_type: ClassVar[str] = ""

    organization_id: int | None
    actor: str
    pfa_id: str = ""
    modification_id: UUID | None = None
    on_behalf_of: str = ""
    reason: str = ""
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None

    def details(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, kw_only=True)
class DraftSaved(Event):
    kind = "draft_saved"


@dataclass(frozen=True, kw_only=True)
class DraftDiscarded(Event):
    kind = "draft_discarded"


@dataclass(frozen=True, kw_only=True)
class DraftAtRisk(Event):
    kind = "draft_at_risk"
    wire_type = "DRAFT_AT_RISK"
    changed_fields: tuple[str, ...]

    def details(self) -> dict[str, Any]:
        return {"changedFields": list(self.changed_fields)}


@dataclass(frozen=True, kw_only=True)
class ModificationQueued(Event):
    kind = "modification_queued"
    wire_type = "SYNC_QUEUED"
    job_id: UUID | None = None

    def details(self) -> dict[str, Any]:
        return {"jobId": str(self.job_id)} if self.job_id else {}


@dataclass(frozen=True, kw_only=True)
class ModificationSuperseded(Event):
    kind = "modification_superseded"


@dataclass(frozen=True, kw_only=True)
class ModificationWithdrawn(Event):
    kind = "modification_withdrawn"
    modification_id: UUID


@dataclass(frozen=True, kw_only=True)
class DeliveryClaimed(Event):
    """Journalled for I9; planners see SYNC_PROCESSING once the request starts."""

    kind = "delivery_claimed"


@dataclass(frozen=True, kw_only=True)
class DeliveryStarted(Event):
    kind = "delivery_started"
    wire_type = "SYNC_PROCESSING"


@dataclass(frozen=True, kw_only=True)
class DeliveryReturned(Event):
    """Given back without having been sent; nothing burnt."""

    kind = "delivery_returned"


@dataclass(frozen=True, kw_only=True)
class ModificationConfirmed(Event):
    kind = "modification_confirmed"
    wire_type = "SYNC_SUCCESS"
    new_version: int
    seconds: float = field(default=0.0, compare=False)

    def details(self) -> dict[str, Any]:
        return {"newVersion": self.new_version}


@dataclass(frozen=True, kw_only=True)
class ModificationRetrying(Event):
    kind = "modification_retrying"
    wire_type = "SYNC_RETRYING"
    retry_count: int
    next_attempt_at: str
    error: str

    def details(self) -> dict[str, Any]:
        return {"retryCount": self.retry_count, "nextAttemptAt": self.next_attempt_at, "error": self.error}


@dataclass(frozen=True, kw_only=True)
class ModificationRebased(Event):
    """PEMS had moved in other fields: the next request is conditional on the new version."""

    kind = "modification_rebased"


@dataclass(frozen=True, kw_only=True)
class ModificationMergedByPolicy(Event):
    """Both sides changed the same, and the organization's policies said whose values stand. `before` and `after`: the
    fields it was about, what we wanted and what stands."""

    kind = "modification_merged_by_policy"


@dataclass(frozen=True, kw_only=True)
class PoliciesChanged(Event):
    """What the machine may settle by itself is another from here on."""

    kind = "policies_changed"


@dataclass(frozen=True, kw_only=True)
class OutcomeUnknown(Event):
    kind = "outcome_unknown"
    wire_type = "SYNC_VERIFYING"


@dataclass(frozen=True, kw_only=True)
class ReadBackAsked(Event):
    """A person wants a dead letter retried or discarded that may still land."""

    kind = "read_back_asked"


@dataclass(frozen=True, kw_only=True)
class ProofFailed(Event):
    """A read-back that proved nothing; another follows."""

    kind = "proof_failed"


@dataclass(frozen=True, kw_only=True)
class ModificationConflicted(Event):
    """`conflicts` opens its Conflict from this, inside the same transaction."""

    kind = "modification_conflicted"
    wire_type = "SYNC_CONFLICT"
    organization_id: int
    modification_id: UUID
    conflict_id: UUID
    conflict_kind: str
    fields: tuple[str, ...]
    base: Mapping[str, Value]
    ours: Mapping[str, Value]
    theirs: Mapping[str, Value]
    pems_version: int
    theirs_at: datetime | None = None

    def details(self) -> dict[str, Any]:
        return {"conflictId": str(self.conflict_id), "conflictingFields": list(self.fields)}


@dataclass(frozen=True, kw_only=True)
class ConflictResolved(Event):
    kind = "conflict_resolved"
    wire_type = "CONFLICT_RESOLVED"
    conflict_id: UUID
    resolution: str

    def details(self) -> dict[str, Any]:
        return {"conflictId": str(self.conflict_id), "resolution": self.resolution}


@dataclass(frozen=True, kw_only=True)
class ConflictReopened(Event):
    """A resolution was taken back in time; for sockets it is a conflict like a new one."""

    kind = "conflict_reopened"
    wire_type = "SYNC_CONFLICT"
    conflict_id: UUID
    fields: tuple[str, ...]

    def details(self) -> dict[str, Any]:
        return {"conflictId": str(self.conflict_id), "conflictingFields": list(self.fields)}


@dataclass(frozen=True, kw_only=True)
class ModificationBuried(Event):
    kind = "modification_buried"
    wire_type = "SYNC_FAILED"
    error: str
    dead_reason: str
    retry_count: int

    def details(self) -> dict[str, Any]:
        return {"error": self.error, "reason": self.dead_reason, "retryCount": self.retry_count}


@dataclass(frozen=True, kw_only=True)
class RecordChanged(Event):
    kind = "record_changed"
    wire_type = "RECORD_CHANGED"
    new_version: int
    changed_fields: tuple[str, ...]

    def details(self) -> dict[str, Any]:
        return {"newVersion": self.new_version, "changedFields": list(self.changed_fields)}


@dataclass(frozen=True, kw_only=True)
class JobProgressed(Event):
    kind = "job_progressed"
    wire_type = "JOB_PROGRESS"
    job_id: UUID
    done: int
    total: int

    def details(self) -> dict[str, Any]:
        return {"jobId": str(self.job_id), "done": self.done, "total": self.total}


@dataclass(frozen=True, kw_only=True)
class QueuePaused(Event):
    kind = "queue_paused"
    wire_type = "QUEUE_PAUSED"

    def details(self) -> dict[str, Any]:
        return {"reason": self.reason}


@dataclass(frozen=True, kw_only=True)
class QueueResumed(Event):
    kind = "queue_resumed"
    wire_type = "QUEUE_RESUMED"


@dataclass(frozen=True, kw_only=True)
class BreakerOpened(Event):
    """PEMS does not answer: nothing is sent on the connection but one canary at a time (D10)."""

    kind = "breaker_opened"


@dataclass(frozen=True, kw_only=True)
class BreakerClosed(Event):
    """A canary was answered."""

    kind = "breaker_closed"


@dataclass(frozen=True, kw_only=True)
class BreakerOverridden(Event):
    """A person ordered it open or closed, or gave it back to the machine."""

    kind = "breaker_overridden"


@dataclass(frozen=True, kw_only=True)
class MaintenanceChanged(Event):
    """A window in which nothing is sent was added (no `before`), changed, or removed (no `after`)."""

    kind = "maintenance_changed"


@dataclass(frozen=True, kw_only=True)
class OrganizationRestarted(Event):
    """The database came from a backup: nothing is sent until PEMS has been read as a whole. `after` says what is lost."""

    kind = "organization_restarted"


@dataclass(frozen=True, kw_only=True)
class OrganizationRestored(Event):
    """The sweep after a restore has ended: sending goes on."""

    kind = "organization_restored"


@dataclass(frozen=True, kw_only=True)
class FoundWritten(Event):
    """After a restore PEMS showed every value of an edit in conflict: somebody had decided for it after the backup."""

    kind = "modification_found_written"
    modification_id: UUID


@dataclass(frozen=True, kw_only=True)
class SignedIn(Event):
    kind = "signed_in"


@dataclass(frozen=True, kw_only=True)
class TokenRevoked(Event):
    kind = "token_revoked"


@dataclass(frozen=True, kw_only=True)
class PullAsked(Event):
    """A person wants PEMS to be read now."""

    kind = "pull_asked"


@dataclass(frozen=True, kw_only=True)
class PullFinished(Event):
    kind = "pull_finished"


@dataclass(frozen=True, kw_only=True)
class SweepBraked(Event):
    """Too many records were missing in PEMS at once: none was given up."""

    kind = "sweep_braked"


@dataclass(frozen=True, kw_only=True)
class RecordGone(Event):
    """PEMS no longer knows the record: it stays here as a tombstone."""

    kind = "record_gone"


@dataclass(frozen=True, kw_only=True)
class RecordRevived(Event):
    """PEMS was found to know a record after all that had been given up here."""

    kind = "record_revived"


@dataclass(frozen=True, kw_only=True)
class ModificationAdjusted(Event):
    """PEMS turned out to hold other values than we sent, at the version of our own write."""

    kind = "modification_adjusted"


@dataclass(frozen=True, kw_only=True)
class ReconcileFinished(Event):
    kind = "reconcile_finished"


@dataclass(frozen=True, kw_only=True)
class ApprovalAsked(Event):
    """A second person has to agree before something is carried out."""

    kind = "approval_asked"


@dataclass(frozen=True, kw_only=True)
class ApprovalDecided(Event):
    kind = "approval_decided"
