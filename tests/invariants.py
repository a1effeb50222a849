"""What must stay true whatever happens (FAILURES.md, Invariants), asserted on the database."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from pems_sync.journal import first_broken
from pems_sync.models import JournalEntry, Modification, Organization, Record
from pems_sync.states import IN_FLIGHT, State, holds_lane, may_move


def assert_invariants(organization: Organization) -> None:
    rows = list(Modification.objects.for_organization(organization).select_related("superseded_by"))
    assert_nothing_disappeared(rows)
    assert_lanes(rows)
    assert_journal(organization, rows)


def assert_nothing_disappeared(rows: list[Modification]) -> None:
    """I2: what was folded lives on in the one it was folded into."""
    for row in rows:
        if row.state == State.SUPERSEDED:
            assert row.superseded_by is not None
            assert row.superseded_by.record_id == row.record_id
            assert row.superseded_by.author_id == row.author_id
            assert set(row.changes) <= set(row.superseded_by.changes)


def assert_lanes(rows: list[Modification]) -> None:
    """I3, and exactly one head where anything holds the lane."""
    lanes: dict[int, list[Modification]] = defaultdict(list)
    for row in rows:
        lanes[row.record_id].append(row)
    for lane in lanes.values():
        assert sum(row.state in IN_FLIGHT for row in lane) <= 1
        held = any(holds_lane(State(row.state), row.dead_reason) for row in lane)
        assert sum(row.is_head for row in lane) == held, [(row.state, row.is_head) for row in lane]


def assert_journal(organization: Organization, rows: list[Modification]) -> None:
    """I9 and I10: the chain verifies, numbers have no holes, and every transition of every row is in it."""
    entries = JournalEntry.objects.filter(organization=organization).order_by("position")
    assert first_broken(entries) is None
    seqs = [entry.seq for entry in entries if entry.seq is not None]
    assert seqs == list(range(1, len(seqs) + 1))
    ways: dict[Any, list[tuple[str, str]]] = defaultdict(list)
    for entry in entries:
        if entry.kind != "draft_saved" and isinstance(entry.after, dict) and "state" in entry.after and entry.before:
            ways[entry.modification_id].append((entry.before["state"], entry.after["state"]))
    for row in rows:
        state = "draft"
        for old, new in ways[row.pk]:
            assert old == state, (row.pk, ways[row.pk])
            assert may_move(State(old), State(new))
            state = new
        assert state == row.state, (row.pk, ways[row.pk], row.state)


def assert_applied_once(engine: Any) -> None:
    """I1 against PEMS's own count, where no person decided in between."""
    stats = engine.sandbox.stats()["keys"]
    assert stats["reusedForAnotherRequest"] == []
    counted = Counter(entry["idempotencyKey"] for entry in engine.sandbox.audit())
    for row in Modification.objects.for_organization(engine.organization).prefetch_related("ledger"):
        applied = sum(counted[str(key)] for key in {attempt.idempotency_key for attempt in row.ledger.all()})
        how = JournalEntry.objects.filter(modification_id=row.pk, kind="modification_confirmed").first()
        if row.state == State.CONFIRMED and how is not None:
            assert applied == (0 if how.after["how"] == "converged" else 1), (row.pk, how.after)
        assert applied <= 1


def assert_stored_equals_pems(engine: Any) -> None:
    """I13: the stored records equal PEMS."""
    from pems_sync.client.answers import record_of

    for record in Record.objects.for_organization(engine.organization).filter(deleted_at=None):
        shown = record_of(engine.in_pems(record), organization_code=engine.organization.code)
        assert (record.version, record.fields) == (shown.version, shown.fields), record.pfa_id
