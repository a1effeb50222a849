"""What people and the engine do before an API test asks about it. Everything through services, as in production."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User

from pems_sync.clock import database_now
from pems_sync.journal import unit_of_work
from pems_sync.models import Attempt, AttemptOutcome, Membership, Modification, Record
from pems_sync.records import remember
from pems_sync.scheduling import claim
from pems_sync.services.committing import commit
from pems_sync.services.drafts import DraftInput, save_draft
from pems_sync.services.moves import Moves
from pems_sync.services.transitions import bury, confirm, retry_later, suspect
from pems_sync.states import DeadReason


def member(user: User) -> Membership:
    return Membership.objects.select_related("organization__connection", "user").get(user=user)


def draft(record: Record, user: User, **changes: Any) -> Modification:
    wanted = DraftInput(record.pfa_id, changes or {"model": "320"}, record.version, "planned")
    return save_draft(membership=member(user), wanted=wanted).modification


def queued(record: Record, user: User, **changes: Any) -> Modification:
    row = draft(record, user, **changes)
    result = commit(membership=member(user), modification_ids=[row.pk])
    assert not result.rejected, result.rejected
    return fresh(row)


def fresh(row: Modification) -> Modification:
    return Modification.objects.select_related("organization__connection", "author", "record").get(pk=row.pk)


def moved_in_pems(record: Record, **fields: Any) -> Record:
    """PEMS shows another version; nobody has looked at the drafts yet."""
    record.version += 1
    record.fields = {**record.fields, **fields}
    record.save()
    remember([record], {})
    return record


def conflicted(record: Record, user: User, ours: str = "320", theirs: str = "340") -> Modification:
    row = draft(record, user, model=ours)
    moved_in_pems(record, model=theirs)
    commit(membership=member(user), modification_ids=[row.pk])
    row = fresh(row)
    assert row.state == "conflicted"
    return row


@contextmanager
def in_flight(row: Modification):
    """The row as its worker holds it, inside a transaction that saves what happens to it."""
    claims = claim(row.organization.connection_id)
    assert row.pk in {each.pk for one in claims for each in one.rows}
    row = fresh(row)
    attempt = Attempt.objects.create(
        modification=row,
        epoch=row.lease_epoch,
        delivery_id=row.delivery_id or row.pk,
        version_sent=row.expected_version,
        idempotency_key=row.pk,
        request={"operation": "UPDATE", "changes": row.changes},
        worker="w",
        started_at=database_now(),
    )
    with unit_of_work() as work:
        moves = Moves(work)
        yield moves, row, attempt
        moves.flush()


def buried(
    record: Record, user: User, message: str = "PEMS says no", at_field: str = "", **changes: Any
) -> Modification:
    row = queued(record, user, **changes)
    with in_flight(row) as (moves, held, attempt):
        AttemptOutcome.objects.create(
            attempt=attempt, kind="rejected", status=422, response={"error": "NO", "monthlyRate": 1}, at=database_now()
        )
        bury(moves, held, reason=DeadReason.REJECTED, code="NO", message=message, at_field=at_field, actor="PEMS")
    return fresh(row)


def confirmed(record: Record, user: User, **changes: Any) -> Modification:
    row = queued(record, user, **changes)
    with in_flight(row) as (moves, held, _):
        confirm(moves, held, version=record.version + 1, actor="worker", how="answer")
    return fresh(row)


def retrying(record: Record, user: User, **changes: Any) -> Modification:
    row = queued(record, user, **changes)
    with in_flight(row) as (moves, held, _):
        held.attempts += 1
        at = database_now() + timedelta(seconds=60)
        retry_later(moves, held, at=at, error="PEMS is busy", actor="worker")
    return fresh(row)


def unknown(record: Record, user: User, **changes: Any) -> Modification:
    row = queued(record, user, **changes)
    with in_flight(row) as (moves, held, _):
        suspect(moves, held, cause="no answer in time", read_at=database_now() + timedelta(seconds=60), actor="worker")
    return fresh(row)
