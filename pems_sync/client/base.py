"""The port to PEMS: what is sent, what can come of it. Dialects translate; nothing here knows HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol
from uuid import UUID, uuid5

from pems_sync.fields import Value, Values

_NAMESPACE = UUID("5f0c7c5e-7e0b-4f0e-9d1e-6f1f5f6b7a01")


@dataclass(frozen=True)
class PemsRecord:
    """A record as PEMS shows it, with canonical values."""

    pfa_id: str
    organization_code: str
    version: int
    updated_at: datetime | None
    updated_by: str
    fields: Values

    @cached_property
    def content_hash(self) -> str:
        return content_hash(self.fields)


def content_hash(fields: Mapping[str, Value]) -> str:
    """SHA-256 of the canonical values, as hexadecimal: equal exactly when no value differs."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True)
class Write:
    """One operation on one record, conditional on `version` (I6)."""

    modification_id: UUID
    operation: str
    pfa_id: str
    organization_code: str
    version: int
    changes: Values
    modified_by: str
    change_reason: str

    @property
    def idempotency_key(self) -> UUID:
        """The same for an identical resend, another after any rebase, resolution or fix (PROTOCOL.md)."""
        content = json.dumps([str(self.modification_id), self.operation, self.version, self.changes], sort_keys=True)
        return uuid5(_NAMESPACE, content)


@dataclass(frozen=True)
class Confirmed:
    """Applied. `record` is None where PEMS did not show it."""

    new_version: int
    updated_at: datetime | None
    record: PemsRecord | None


@dataclass(frozen=True)
class Drifted:
    """Refused: PEMS is at another version."""

    current_version: int | None


@dataclass(frozen=True)
class Gone:
    """PEMS does not know the record any more."""


@dataclass(frozen=True)
class Rejected:
    """Refused for good: the same request would be refused again."""

    code: str
    message: str
    field: str = ""


@dataclass(frozen=True)
class Busy:
    """This record cannot be written now; another try may do."""

    message: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True)
class Unknown:
    """Sent, and whether it was applied cannot be told."""

    cause: str


Outcome = Confirmed | Drifted | Gone | Rejected | Busy | Unknown


class FaultKind(StrEnum):
    UNREACHABLE = "unreachable"
    CREDENTIALS = "credentials"
    ADDRESS = "address"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Fault:
    """The connection's trouble, not the edit's: nothing was executed, no attempt is burnt."""

    kind: FaultKind
    message: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True)
class BatchAbsent:
    """This PEMS has no batch call."""


@dataclass(frozen=True)
class BatchRefused:
    """The batch as a whole was refused (400, 413): send halves."""

    message: str


@dataclass(frozen=True)
class Reply:
    """What came of one request: an outcome per write, in order, or one verdict on the whole request."""

    outcomes: tuple[Outcome, ...] | Fault | BatchAbsent | BatchRefused
    status: int | None
    milliseconds: int
    excerpts: tuple[Any, ...] = field(default=())
    """What PEMS answered per write, cut to what explains it; no credentials."""


@dataclass(frozen=True)
class Missing:
    """A read found no such record."""


@dataclass(frozen=True)
class ReadFailed:
    """A read that proves nothing. `answered`: PEMS did speak, if not of what was asked for."""

    fault: Fault | None
    message: str
    answered: bool = False


ReadResult = PemsRecord | Missing | ReadFailed


@dataclass(frozen=True)
class BrokenRow:
    """A row of a list that cannot be read: skipped, counted, shown with its reason."""

    pfa_id: str
    message: str


@dataclass(frozen=True)
class Page:
    """One page of a list, as far as it could be read."""

    records: tuple[PemsRecord, ...]
    broken: tuple[BrokenRow, ...]
    next_cursor: str | None
    total: int | None
    server_time: datetime | None = None


class PemsClient(Protocol):
    """One connection to PEMS. Each call is one request and waits for nothing; the caller holds a slot of the pace.

    `total_seconds` bounds every call from connect to the last byte.
    """

    total_seconds: float

    def push(self, writes: Sequence[Write]) -> Reply: ...

    def push_bytes(self, writes: Sequence[Write]) -> int:
        """Size of the request body, in bytes."""
        ...

    def read(self, *, organization_code: str, pfa_id: str) -> ReadResult: ...

    def page(
        self,
        *,
        organization_code: str,
        updated_since: datetime | None = None,
        cursor: str | None = None,
        limit: int = 1000,
    ) -> Page | ReadFailed: ...


def all_pages(pages: Iterator[Page | ReadFailed]) -> tuple[dict[str, PemsRecord], bool]:
    """Records by id over several pages, and whether the last page was reached."""
    found: dict[str, PemsRecord] = {}
    for page in pages:
        if isinstance(page, ReadFailed):
            return found, False
        found |= {record.pfa_id: record for record in page.records}
    return found, True
