"""What the tests of the admin share: signed-in staff, rows in every state, addresses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from conflicts.models import Conflict
from pems_sync import events
from pems_sync.journal import unit_of_work
from pems_sync.models import Approval, Attempt, AttemptOutcome, Job, JournalEntry, Modification, Organization
from pems_sync.models.approval import ApprovalKind
from pems_sync.services.transitions import fingerprint
from pems_sync.states import DeadReason, State
from tests.cast import make_record


def staff(user: User, **flags: Any) -> Client:
    """Signed in, as every demo user is: staff without any of Django's model permissions. CSRF is enforced."""
    User.objects.filter(pk=user.pk).update(is_staff=True)
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(pk=user.pk))
    return client


def superuser() -> Client:
    user = User.objects.create_superuser("root", password="a-password")
    client = Client()
    client.force_login(user)
    return client


def make_modification(
    organization: Organization, author: User, *, state: State = State.QUEUED, job: Job | None = None, **fields: Any
) -> Modification:
    """A row as the engine leaves it. The trigger guards the ways between states, not how a row begins."""
    record = fields.pop("record", None) or make_record(organization, monthlyRate="5511.22")
    now = timezone.now()
    defaults: dict[str, Any] = {
        "changes": {"monthlyRate": "6123.45", "model": "NEW"}, "base": {"monthlyRate": "5511.22", "model": "330"},
        "base_version": 4, "expected_version": 4, "reason": "later delivery", "saved_at": now, "state": state,
        "job": job,
    }  # fmt: skip
    if state is not State.DRAFT:
        defaults |= {"committed_at": now, "queued_at": now, "rank_at": now}
    if state is State.DEAD:
        defaults |= {
            "dead_reason": DeadReason.REJECTED, "error_code": "BUSINESS_RULE", "error_message": "refused by a rule",
            "fingerprint": fingerprint("rejected", "BUSINESS_RULE", "", "refused by a rule"),
        }  # fmt: skip
    return Modification.objects.create(
        organization=organization, record=record, pfa_id=record.pfa_id, author=author, authorised_by=author,
        **defaults | fields,
    )  # fmt: skip


def make_attempt(row: Modification, *, epoch: int = 1, detail: str = "answered") -> Attempt:
    now = timezone.now()
    attempt = Attempt.objects.create(
        modification=row, epoch=epoch, delivery_id=row.pk, version_sent=4, idempotency_key=row.pk,
        request={"operation": "UPDATE", "changes": row.changes}, worker="worker-1", started_at=now,
    )  # fmt: skip
    AttemptOutcome.objects.create(
        attempt=attempt, kind="rejected", status=422, detail=detail, response={"record": {"monthlyRate": 6123.45}},
        milliseconds=21, at=now + timedelta(milliseconds=21),
    )  # fmt: skip
    return attempt


def make_everything(organization: Organization, author: User) -> dict[str, Any]:
    """One row of each kind, by model name."""
    job = Job.objects.create(organization=organization, kind="write_sync", author=author, started_at=timezone.now())
    dead = make_modification(organization, author, state=State.DEAD, job=job)
    conflicted = make_modification(organization, author, state=State.CONFLICTED, is_head=True)
    fields = [{"name": "monthlyRate", "base": "5511.22", "ours": "6123.45", "theirs": "7733.11", "group": "terms"}]
    conflict = Conflict.objects.create(
        organization=organization, modification=conflicted, pfa_id=conflicted.pfa_id, kind="overlap", pems_version=5,
        fields=fields,
    )  # fmt: skip
    return {
        "pems_sync_modification": dead,
        "pems_sync_deadletter": dead,
        "pems_sync_attempt": make_attempt(dead),
        "pems_sync_job": job,
        "pems_sync_record": dead.record,
        "pems_sync_approval": make_approval(dead),
        "pems_sync_journalentry": make_entry(dead),
        "pems_sync_organization": organization,
        "conflicts_conflict": conflict,
    }


def make_approval(row: Modification) -> Approval:
    """Of a rollback that its author asked for."""
    payload = {"version": 4, "reason": "too dear", "before": {"monthlyRate": "6123.45"}, "changes": {"model": "330"}}
    return Approval.objects.create(
        organization=row.organization, kind=ApprovalKind.ROLLBACK, subject=row.pfa_id, payload=payload,
        summary=f"Roll {row.pfa_id} back", asked_by=row.author,
    )  # fmt: skip


def make_entry(row: Modification) -> JournalEntry:
    with unit_of_work() as work:
        work.record(
            events.DraftSaved(
                organization_id=row.organization_id, pfa_id=row.pfa_id, modification_id=row.pk,
                actor=row.author.username, after=dict(row.changes), reason=row.reason,
            )
        )  # fmt: skip
    return JournalEntry.objects.filter(modification_id=row.pk).latest("position")


def list_of(model: str, **query: str) -> str:
    return reverse(f"admin:{model}_changelist", query=query or None)


def page_of(model: str, row: Model) -> str:
    return reverse(f"admin:{model}_change", args=[row.pk])


def act(client: Client, model: str, action: str, *rows: Any, **more: str) -> Any:
    """As the list's own form does it, token included. Follows to the page that tells the result."""
    client.get(list_of(model))
    keys = [str(getattr(row, "pk", row)) for row in rows]
    form = {"action": action, "_selected_action": keys, "csrfmiddlewaretoken": client.cookies["csrftoken"].value}
    return client.post(list_of(model), form | more, follow=True)
