"""The engine driven step by step in one process, against a real sandbox over real HTTP and a real database.

Workers are left out on purpose: a test says itself what happens in which order. tests/acceptance has them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User

from deploy.sandbox.process import SandboxProcess
from pems_sync import delivery, inbound, proof, scheduling
from pems_sync.client.connect import counting_for
from pems_sync.clock import database_now
from pems_sync.models import Connection, Membership, Modification, Organization, Record
from pems_sync.models.organization import Breaker
from pems_sync.services import crashing
from pems_sync.services.committing import commit
from pems_sync.services.drafts import DraftInput, save_draft
from pems_sync.states import State


@dataclass
class Engine:
    """`records` are unspoilt rentals of the organization: neither actualized nor discontinued."""

    sandbox: SandboxProcess
    organization: Organization
    planner: User
    records: list[Record] = field(default_factory=list)

    def pull(self) -> inbound.Pulled:
        pulled = inbound.pull(self.organization)
        self.records = [
            record
            for record in Record.objects.for_organization(self.organization).order_by("pfa_id")
            if record.fields["source"] == "Rental"
            and not record.fields["isDiscontinued"]
            and not record.fields["isActualized"]
        ]
        return pulled

    def member(self, user: User | None = None) -> Membership:
        return Membership.objects.select_related("organization__connection", "user").get(
            user=user or self.planner, organization=self.organization
        )

    def draft(self, record: Record, *, by: User | None = None, **changes: Any) -> Modification:
        """A draft on the record as it is stored now."""
        version = Record.objects.get(pk=record.pk).version
        return save_draft(
            membership=self.member(by), wanted=DraftInput(record.pfa_id, changes, version, "a test")
        ).modification

    def edit(self, record: Record, *, by: User | None = None, **changes: Any) -> Modification:
        """A committed modification."""
        row = self.draft(record, by=by, **changes)
        result = commit(membership=self.member(by), modification_ids=[row.pk])
        assert not result.rejected, result.rejected
        return self.row(row)

    def row(self, row: Modification) -> Modification:
        return Modification.objects.select_related("record", "author", "organization__connection").get(pk=row.pk)

    def state(self, row: Modification) -> State:
        return State(self.row(row).state)

    def connection(self) -> Connection:
        return Connection.objects.get(pk=self.organization.connection_id)

    def claim(self) -> list[scheduling.Claim]:
        return scheduling.claim(self.organization.connection_id)

    def send(self) -> int:
        """One claim, each of its requests sent. How many requests."""
        claims = self.claim()
        for each in claims:
            delivery.deliver(each.delivery_id)
        return len(claims)

    def prove(self) -> int:
        """Let every read-back be due, and read."""
        self.skip_waits()
        rows = Modification.objects.provable(database_now())
        return proof.prove(list(rows.values_list("pk", flat=True)))

    def skip_waits(self) -> None:
        """As if the time had passed that rows and connection wait for."""
        earlier = database_now() - timedelta(seconds=1)
        Modification.objects.exclude(not_before=None).update(not_before=earlier)
        Connection.objects.update(held_until=None)
        Connection.objects.filter(breaker=Breaker.OPEN).update(breaker_probe_at=earlier)
        self.forget_requests()

    def forget_requests(self) -> None:
        """As if the requests so far lay back so long that the breaker counts none of them."""
        counting_for(self.organization.connection).forget()

    def expire_leases(self) -> int:
        """As if the workers that hold leases had been dead for long."""
        Modification.objects.filter(state=State.SENDING).update(lease_until=database_now() - timedelta(seconds=1))
        return crashing.return_expired()

    def settle(self, *, rounds: int = 20) -> None:
        """Send and prove until nothing moves any more."""
        for _ in range(rounds):
            self.skip_waits()
            if not self.send() + self.prove():
                return

    def applied(self, row: Modification) -> list[dict[str, Any]]:
        """Writes of this modification that PEMS applied, by its own count."""
        keys = {str(attempt.idempotency_key) for attempt in row.ledger.all()}
        return [entry for entry in self.sandbox.audit(row.pfa_id) if entry["idempotencyKey"] in keys]

    def in_pems(self, record: Record) -> dict[str, Any]:
        return self.sandbox.record(record.pfa_id, self.organization.code)
