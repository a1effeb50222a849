"""The story of one modification: its journal entries in order, each attempt with what was sent and what came back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Prefetch

from pems_sync.api.presenting import shown_document
from pems_sync.api.wire import stamp
from pems_sync.models import Attempt, AttemptOutcome, JournalEntry, Modification

_TEXTS = {
    "draft_saved": "saved the draft",
    "draft_discarded": "discarded the draft",
    "draft_at_risk": "PEMS changed a field that the draft changes",
    "modification_queued": "committed it to the queue",
    "modification_superseded": "a later edit of the same author took its place",
    "modification_withdrawn": "took it back",
    "delivery_claimed": "its turn came: a worker has it in hand",
    "delivery_started": "the request to PEMS started",
    "delivery_returned": "given back unsent",
    "modification_confirmed": "PEMS has it",
    "modification_retrying": "waits for another try",
    "modification_rebased": "PEMS had moved in other fields: goes on at the new version",
    "modification_merged_by_policy": "both sides changed the same: settled by the policies of the organization",
    "outcome_unknown": "sent, and whether it was applied is not known",
    "read_back_asked": "asked for PEMS to be read back first",
    "proof_failed": "PEMS could not be read back",
    "modification_conflicted": "both sides changed the same: a person decides",
    "conflict_resolved": "resolved the conflict",
    "conflict_reopened": "took the resolution back: a person decides anew",
    "modification_buried": "the machine gave up",
}

_ASKED = ("modification_conflicted", "conflict_reopened")


def entries_of(row: Modification) -> list[JournalEntry]:
    entries = JournalEntry.objects.filter(modification_id=row.pk, organization=row.organization_id)
    return list(entries.order_by("position"))


def conflict_of(entries: list[JournalEntry]) -> str | None:
    """The id of its latest conflict."""
    ids = [entry.details.get("conflictId") for entry in entries if entry.kind in _ASKED]
    return ids[-1] if ids else None


def ledger_of(row: Modification, *, money: bool) -> list[dict[str, Any]]:
    """Every attempt, first to last."""
    outcomes = Prefetch("outcomes", AttemptOutcome.objects.order_by("at", "pk"))
    attempts = Attempt.objects.filter(modification=row).order_by("epoch").prefetch_related(outcomes)
    return [_attempt(attempt, number, money=money) for number, attempt in enumerate(attempts, start=1)]


def _attempt(attempt: Attempt, number: int, *, money: bool) -> dict[str, Any]:
    return {
        "number": number,
        "startedAt": stamp(attempt.started_at),
        "versionSent": attempt.version_sent,
        "idempotencyKey": str(attempt.idempotency_key),
        "batchOf": attempt.batch_of,
        "request": shown_document(attempt.request, money=money),
        "outcomes": [_outcome(outcome, money=money) for outcome in attempt.outcomes.all()],
    }


def _outcome(outcome: AttemptOutcome, *, money: bool) -> dict[str, Any]:
    return {
        "at": stamp(outcome.at),
        "outcome": outcome.kind,
        "status": outcome.status,
        "milliseconds": outcome.milliseconds,
        "detail": shown_document(outcome.detail, money=money),
        "response": shown_document(outcome.response, money=money),
    }


def timeline_of(entries: list[JournalEntry], ledger: list[dict[str, Any]], *, money: bool) -> Iterator[dict[str, Any]]:
    """Each start of a request carries its attempt: there is exactly one per start."""
    attempts = iter(ledger)
    for entry in entries:
        yield {
            "at": stamp(entry.recorded_at),
            "event": entry.kind,
            "text": _text(entry),
            "actor": entry.actor,
            "onBehalfOf": entry.on_behalf_of or None,
            "reason": shown_document(entry.reason, money=money) or None,
            "before": shown_document(entry.before, money=money),
            "after": shown_document(entry.after, money=money),
            "details": shown_document(entry.details, money=money),
            "attempt": next(attempts, None) if entry.kind == "delivery_started" else None,
        }


def _text(entry: JournalEntry) -> str:
    text = _TEXTS.get(entry.kind, entry.kind.replace("_", " "))
    return f"{entry.actor}: {text}" if entry.actor else text
