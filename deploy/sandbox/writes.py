"""What a client asks of the store, and what can come of it."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .fields import Record
from .jsontext import to_json


@dataclass(frozen=True, slots=True)
class Write:
    """One versioned change, as any dialect asks for it."""

    operation: Literal["UPDATE", "DELETE"]
    pfa_id: str
    organization: str
    changes: Mapping[str, Any]
    version: int
    modified_by: str
    change_reason: str | None = None
    idempotency_key: str | None = None
    request_id: str | None = None

    def fingerprint(self) -> int:
        """Equal for what is byte for byte the same request."""
        return zlib.crc32(to_json([self.operation, self.pfa_id, self.version, self.changes]))


@dataclass(frozen=True, slots=True)
class Effects:
    """What PEMS adds to a write of its own accord."""

    extra_versions: int = 0
    adjusts: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    record: Record


@dataclass(frozen=True, slots=True)
class Stale:
    pfa_id: str
    current_version: int
    expected_version: int
    fields: list[str]


@dataclass(frozen=True, slots=True)
class Invalid:
    pfa_id: str
    errors: dict[str, str]


@dataclass(frozen=True, slots=True)
class BrokenRule:
    pfa_id: str
    message: str
    field: str


@dataclass(frozen=True, slots=True)
class Missing:
    pfa_id: str


Outcome = Applied | Stale | Invalid | BrokenRule | Missing
REFUSALS: dict[str, type[Stale | Invalid | BrokenRule | Missing]] = {
    kind.__name__: kind for kind in (Stale, Invalid, BrokenRule, Missing)
}
"""By the name under which the state file knows them."""
