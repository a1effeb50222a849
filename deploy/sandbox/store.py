"""The records, and the one way to change them. Knows nothing of HTTP: every dialect works on it."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from .audit import AuditTrail, Entry
from .clock import Clock, seconds_of, stamp
from .fields import Record, adjusted, broken_rule, clean
from .jsontext import to_json
from .statelog import StateLog
from .writes import REFUSALS, Applied, BrokenRule, Effects, Invalid, Missing, Outcome, Stale, Write

_NO_EFFECTS = Effects()


class Store:
    """Single-threaded: a call runs to its end before the next starts."""

    def __init__(self, records: Iterable[Record], clock: Clock, log: StateLog) -> None:
        self._clock = clock
        self._log = log
        self._last_update = 0.0
        self._answered: dict[str, tuple[int, Outcome]] = {}
        self._by_update: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        self.records: dict[str, Record] = {}
        self.audit = AuditTrail()
        self.counts: Counter[str] = Counter()
        self.keys_reused: set[str] = set()
        self.on_change: Callable[[str, str], None] = lambda organization, pfa_id: None
        for record in records:
            self._put(record)

    def find(self, pfa_id: str, organization: str) -> Record | None:
        record = self.records.get(pfa_id)
        return record if record is not None and record["organizationCode"] == organization else None

    def changed_since(
        self, organization: str, since: str, after: tuple[str, str] | None, limit: int
    ) -> tuple[list[Record], int, bool]:
        """A page in the order (updatedAt, pfaId), how many match in all, whether more follow. `since` is inclusive."""
        order = self._by_update.get(organization, [])
        first = bisect_left(order, (since, ""))
        start = first if after is None else max(first, bisect_right(order, after))
        page = [self.records[pfa_id] for _, pfa_id in order[start : start + limit]]
        return page, len(order) - first, start + limit < len(order)

    def records_per_organization(self) -> dict[str, int]:
        return {organization: len(order) for organization, order in self._by_update.items()}

    def server_time(self) -> str:
        """Never before an `updatedAt` already given out."""
        return stamp(max(self._clock.now(), self._last_update))

    # ------------------------------------------------------------------ writes of clients

    def write(self, write: Write, effects: Effects = _NO_EFFECTS, *, honour_key: bool = True) -> Outcome:
        """Applies the write, or says why not. With an honoured key, the outcome of its first execution again."""
        if honour_key and (repeated := self._repeated(write)) is not None:
            return repeated
        values, errors = clean(write.changes)
        if (refusal := self._refusal(write, values, errors)) is not None:
            self._remember_refusal(write, refusal)
            return refusal
        entry = self._entry(write, values, effects)
        self._change(entry, write.fingerprint())
        return Applied(self.records[write.pfa_id])

    def _repeated(self, write: Write) -> Outcome | None:
        if write.idempotency_key is None or write.idempotency_key not in self._answered:
            return None
        fingerprint, outcome = self._answered[write.idempotency_key]
        is_other = fingerprint != write.fingerprint()
        self.replay_repeat(write.idempotency_key, is_other)
        self._log.append(to_json({"repeated": [write.idempotency_key, is_other]}))
        return outcome

    def _refusal(self, write: Write, values: Record, errors: dict[str, str]) -> Outcome | None:
        record = self.find(write.pfa_id, write.organization)
        if record is None:
            return Missing(write.pfa_id)
        if errors:
            return Invalid(write.pfa_id, errors)
        if write.version != record["version"]:
            since = self.audit.fields_changed_since(write.pfa_id, write.version)
            return Stale(write.pfa_id, record["version"], write.version, sorted(since.intersection(values)))
        broken = broken_rule({**record, **values}, values)
        return BrokenRule(write.pfa_id, *broken) if broken else None

    def _entry(self, write: Write, values: Record, effects: Effects) -> Entry:
        record = self.records[write.pfa_id]
        own = adjusted(values) if effects.adjusts else {}
        return {
            "seq": self.audit.next_seq(),
            "at": self._next_update(),
            "pfaId": write.pfa_id,
            "organization": write.organization,
            "operation": write.operation,
            "versionBefore": record["version"],
            "versionAfter": record["version"] + 1 + effects.extra_versions,
            "changes": values,
            "adjusted": own,
            "before": {name: record[name] for name in {**values, **own}},
            "modifiedBy": write.modified_by,
            "changeReason": write.change_reason,
            "idempotencyKey": write.idempotency_key,
            "requestId": write.request_id,
            "source": "api",
        }

    def _remember_refusal(self, write: Write, refusal: Outcome) -> None:
        key, fingerprint = write.idempotency_key, write.fingerprint()
        self._log.append(to_json({"refused": [key, fingerprint, type(refusal).__name__, asdict(refusal)]}))
        self._count_refusal(key, fingerprint, refusal)

    def _count_refusal(self, key: str | None, fingerprint: int, refusal: Outcome) -> None:
        self.counts[type(refusal).__name__] += 1
        self.counts["withoutKey"] += key is None
        if key is not None and not isinstance(refusal, Missing):
            self._answered[key] = (fingerprint, refusal)

    # ------------------------------------------------------------------ changes made in PEMS itself

    def edit(self, pfa_id: str, values: Record, modified_by: str, bump: int) -> Record:
        """Another user's change, not held to the rules of a whole record. KeyError when there is no such record."""
        record = self.records[pfa_id]
        entry = self._own_entry(record, "EDIT", record["version"] + bump, values, modified_by)
        self._change(entry)
        return self.records[pfa_id]

    def remove(self, pfa_id: str) -> None:
        """The record vanishes. KeyError when there is no such record."""
        self._change(self._own_entry(self.records[pfa_id], "REMOVE", None, {}, "sandbox"))

    def _own_entry(self, record: Record, operation: str, version: int | None, values: Record, by: str) -> Entry:
        return {
            "seq": self.audit.next_seq(),
            "at": self._next_update(),
            "pfaId": record["pfaId"],
            "organization": record["organizationCode"],
            "operation": operation,
            "versionBefore": record["version"],
            "versionAfter": version,
            "changes": values,
            "adjusted": {},
            "before": {name: record[name] for name in values},
            "modifiedBy": by,
            "changeReason": None,
            "idempotencyKey": None,
            "requestId": None,
            "source": "sandbox",
        }

    # ------------------------------------------------------------------ one change, new or replayed

    def _change(self, entry: Entry, fingerprint: int = 0) -> None:
        text = self.replay_change(entry, fingerprint)
        self._log.append(b'{"audit":%b,"fingerprint":%d}' % (text, fingerprint))
        self.on_change(entry["organization"], entry["pfaId"])

    def replay_change(self, entry: Entry, fingerprint: int) -> bytes:
        """Carries out an audited change without writing it down again."""
        old = self._take(entry["pfaId"])
        if entry["versionAfter"] is not None:
            own = {"version": entry["versionAfter"], "updatedAt": entry["at"], "updatedBy": entry["modifiedBy"]}
            new = {**old, **entry["changes"], **entry["adjusted"], **own}
            self._put(new)
            if entry["idempotencyKey"] is not None:
                self._answered[entry["idempotencyKey"]] = (fingerprint, Applied(new))
        self._last_update = max(self._last_update, seconds_of(entry["at"]))
        is_api = entry["source"] == "api"
        self.counts["applied" if is_api else entry["operation"]] += 1
        self.counts["withoutKey"] += is_api and entry["idempotencyKey"] is None
        return self.audit.append(entry)

    def replay_refusal(self, key: str | None, fingerprint: int, kind: str, values: dict[str, Any]) -> None:
        self._count_refusal(key, fingerprint, REFUSALS[kind](**values))

    def replay_repeat(self, key: str, is_other: bool) -> None:
        self.counts["repeated"] += 1
        if is_other:
            self.keys_reused.add(key)

    def _put(self, record: Record) -> None:
        self.records[record["pfaId"]] = record
        insort(self._by_update[record["organizationCode"]], (record["updatedAt"], record["pfaId"]))

    def _take(self, pfa_id: str) -> Record:
        record = self.records.pop(pfa_id)
        order = self._by_update[record["organizationCode"]]
        del order[bisect_left(order, (record["updatedAt"], pfa_id))]
        return record

    def _next_update(self) -> str:
        """A microsecond later than any update before, whatever the clock says."""
        return stamp(max(self._clock.now(), self._last_update + 1e-6))
