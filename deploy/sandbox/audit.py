"""Every applied write, and how often each idempotency key was applied: the count that proves "once, never twice"."""

from collections import Counter, defaultdict
from typing import Any, TypedDict

from .jsontext import from_json, to_json


class Entry(TypedDict):
    """One applied change. `changes` is what was asked, `adjusted` what PEMS stored instead, `before` what was there."""

    seq: int
    at: str
    pfaId: str
    organization: str
    operation: str
    versionBefore: int
    versionAfter: int | None
    changes: dict[str, Any]
    adjusted: dict[str, Any]
    before: dict[str, Any]
    modifiedBy: str
    changeReason: str | None
    idempotencyKey: str | None
    requestId: str | None
    source: str


class AuditTrail:
    """Entries are kept as JSON text: a long run then costs the garbage collector nothing."""

    def __init__(self) -> None:
        self._entries: list[bytes] = []
        self._of_record: defaultdict[str, list[int]] = defaultdict(list)
        self.applied_per_key: Counter[str] = Counter()

    def next_seq(self) -> int:
        return len(self._entries) + 1

    def append(self, entry: Entry) -> bytes:
        """The entry as JSON text, for the state file."""
        text = to_json(entry)
        self._of_record[entry["pfaId"]].append(len(self._entries))
        self._entries.append(text)
        if entry["idempotencyKey"] is not None:
            self.applied_per_key[entry["idempotencyKey"]] += 1
        return text

    def fields_changed_since(self, pfa_id: str, version: int) -> set[str]:
        """As far as known: what happened before the sandbox started left no entries."""
        changed: set[str] = set()
        for index in reversed(self._of_record.get(pfa_id, ())):
            entry: Entry = from_json(self._entries[index])
            if (entry["versionAfter"] or 0) <= version:
                break
            changed.update(entry["changes"], entry["adjusted"])
        return changed

    def page(self, pfa_id: str | None, after: int, limit: int) -> bytes:
        """`{"items":[…],"nextAfter":…,"total":…}` as JSON text, from the entry behind seq `after`."""
        if pfa_id is None:
            indexes: list[int] | range = range(after, len(self._entries))
            total = len(self._entries)
        else:
            indexes = [index for index in self._of_record.get(pfa_id, ()) if index >= after]
            total = len(self._of_record.get(pfa_id, ()))
        shown = indexes[:limit]
        next_after = to_json(shown[-1] + 1 if len(indexes) > limit else None)
        items = b",".join(self._entries[index] for index in shown)
        return b'{"items":[%b],"nextAfter":%b,"total":%d}' % (items, next_after, total)

    def report(self) -> dict[str, Any]:
        """The `keys` part of the statistics."""
        twice = [key for key, times in self.applied_per_key.items() if times > 1]
        return {"distinct": len(self.applied_per_key), "appliedMoreThanOnce": twice}
