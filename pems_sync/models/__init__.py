"""Tables of the engine. Integrity lives in constraints, each named for its rule."""

from pems_sync.models.approval import Approval
from pems_sync.models.attempt import Attempt, AttemptOutcome
from pems_sync.models.inbound import InboundState, NamedRead, WebhookEvent
from pems_sync.models.job import IdempotentRequest, Job
from pems_sync.models.journal import JournalEntry, JournalHead
from pems_sync.models.modification import Modification
from pems_sync.models.organization import Connection, MaintenanceWindow, Membership, Organization
from pems_sync.models.policy import FieldPolicy
from pems_sync.models.record import Record, RecordVersion
from pems_sync.models.tally import Conservation, HourTally

__all__ = [
    "Approval",
    "Attempt",
    "AttemptOutcome",
    "Connection",
    "Conservation",
    "FieldPolicy",
    "HourTally",
    "IdempotentRequest",
    "InboundState",
    "Job",
    "JournalEntry",
    "JournalHead",
    "MaintenanceWindow",
    "Membership",
    "Modification",
    "NamedRead",
    "Organization",
    "Record",
    "RecordVersion",
    "WebhookEvent",
]
