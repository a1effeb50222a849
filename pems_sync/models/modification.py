"""One planner's wanted change to one record, and where it stands."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from pems_sync.models.job import Job
from pems_sync.models.organization import Organization
from pems_sync.models.record import Record
from pems_sync.models.sets import SetQuerySet
from pems_sync.states import FINAL, IN_FLIGHT, OPEN, DeadReason, State

_STATES = [(state.value, state.value) for state in State]
_LEASED = Q(lease_until__isnull=False, delivery_id__isnull=False)
_REASONED = Q(dead_reason__isnull=False)
_COMMITTED = Q(committed_at__isnull=False, queued_at__isnull=False, rank_at__isnull=False)
_LANE = Q(state__in=sorted(OPEN)) | Q(state=State.DEAD, dead_reason=DeadReason.POISON)


def _once(name: str, condition: Q, *fields: str) -> models.UniqueConstraint:
    return models.UniqueConstraint(fields=fields, condition=condition, name=name)


def _always(name: str, condition: Q) -> models.CheckConstraint:
    return models.CheckConstraint(condition=condition, name=name)


class Operation(models.TextChoices):
    UPDATE = "UPDATE"
    DELETE = "DELETE"


class ReadBackFor(models.TextChoices):
    """What a person wants done with a dead letter that may still land, once PEMS has been read back."""

    RETRY = "retry"
    DISCARD = "discard"


class ModificationQuerySet(SetQuerySet["Modification"]):
    def for_organization(self, organization: Organization) -> ModificationQuerySet:
        return self.filter(organization=organization)

    def committed(self) -> ModificationQuerySet:
        return self.exclude(committed_at=None)

    def drafts(self) -> ModificationQuerySet:
        return self.filter(state=State.DRAFT)

    def in_lane(self) -> ModificationQuerySet:
        """Rows that keep a place in their record's lane."""
        return self.filter(_LANE)

    def sendable(self, now: datetime | Now) -> ModificationQuerySet:
        """Heads that may be claimed now, were their connection and organization willing. `Now()`: by the database's clock."""
        return self.filter(Q(not_before=None) | Q(not_before__lte=now), state=State.QUEUED, is_head=True)

    def provable(self, now: datetime) -> ModificationQuerySet:
        """Rows whose next read-back is due and that nobody is reading."""
        waiting = Q(state=State.UNKNOWN) | ~Q(read_back_for="")
        return self.filter(waiting, Q(lease_until=None) | Q(lease_until__lte=now), not_before__lte=now)

    def locked(self, ids: Iterable[uuid.UUID] | None = None) -> ModificationQuerySet:
        """Locks in the order of PROTOCOL.md: after records, by id."""
        rows = self if ids is None else self.filter(pk__in=list(ids))
        return rows.order_by("pk").select_for_update(of=("self",))


class Modification(models.Model):
    """See states.py for `state`; PROTOCOL.md, *What is stored with a modification*, for `base`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="modifications")
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="modifications")
    pfa_id = models.CharField(max_length=64)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    authorised_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    job = models.ForeignKey(Job, on_delete=models.PROTECT, null=True, related_name="modifications")
    operation = models.CharField(max_length=8, choices=Operation, default=Operation.UPDATE)
    reason = models.CharField(max_length=500, blank=True, default="")

    changes = models.JSONField(help_text="wanted values by field name; null clears")
    base = models.JSONField(help_text="values the planner started from, group partners included")
    base_version = models.BigIntegerField(help_text="PEMS version the planner saw")
    expected_version = models.BigIntegerField(help_text="PEMS version the next write is conditional on")
    at_risk = models.JSONField(default=list, help_text="draft only: base fields PEMS has since changed")

    state = models.CharField(max_length=12, choices=_STATES, default=State.DRAFT)
    is_head = models.BooleanField(default=False, help_text="next of its record, or under way")
    priority = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    saved_at = models.DateTimeField(help_text="last change by a person")
    committed_at = models.DateTimeField(null=True)
    queued_at = models.DateTimeField(null=True)
    rank_at = models.DateTimeField(null=True, help_text="queued_at - priority x 60 s")
    not_before = models.DateTimeField(null=True)
    waits_for = models.CharField(max_length=300, blank=True, default="", help_text="why `not_before`, in plain words")
    finished_at = models.DateTimeField(null=True)

    delivery_id = models.UUIDField(null=True, help_text="the claim that holds it: rows of one request share it")
    lease_epoch = models.PositiveIntegerField(default=0, help_text="grows with each lease; fences stale holders (I5)")
    lease_until = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True, help_text="attempt written for the present lease")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="burnt tries")
    crashes = models.PositiveSmallIntegerField(
        default=0, help_text="weight of the crashes it was in: see sending.count_crash"
    )
    batch_limit = models.PositiveSmallIntegerField(
        null=True, help_text="largest batch it may join, after a split or crash"
    )
    exposed = models.BooleanField(default=False, help_text="an unknown attempt may still land")
    proofs = models.PositiveSmallIntegerField(default=0, help_text="read-backs since the unknown outcome")
    unknown_since = models.DateTimeField(null=True)

    dead_reason = models.CharField(max_length=12, null=True, choices=[(r.value, r.value) for r in DeadReason])  # noqa: DJ001  (null: not dead)
    error_code = models.CharField(max_length=64, blank=True, default="")
    error_message = models.CharField(max_length=500, blank=True, default="")
    error_field = models.CharField(max_length=64, blank=True, default="")
    fingerprint = models.CharField(max_length=16, blank=True, default="", help_text="groups dead letters of one cause")
    may_still_land = models.BooleanField(default=False)
    read_back_for = models.CharField(max_length=8, choices=ReadBackFor, blank=True, default="")
    discard_reason = models.CharField(
        max_length=500, blank=True, default="", help_text="discard asked for while it may still land"
    )
    superseded_by = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="folded")
    confirmed_version = models.BigIntegerField(null=True)
    auto_merged = models.BooleanField(
        default=False, help_text="PEMS had moved in other fields and it went through without a person"
    )
    adjusted = models.JSONField(default=dict, help_text="values PEMS changed while applying")

    objects = ModificationQuerySet.as_manager()

    class Meta:
        constraints = [
            _once("i3_one_in_flight_per_record", Q(state__in=sorted(IN_FLIGHT)), "record"),
            _once("one_head_per_record", Q(is_head=True), "record"),
            _once("one_draft_per_author_and_record", Q(state=State.DRAFT), "record", "author"),
            _always("only_a_head_is_in_flight", ~Q(state__in=sorted(IN_FLIGHT)) | Q(is_head=True)),
            _always("a_head_holds_its_lane", Q(is_head=False) | _LANE),
            _always("sending_needs_a_lease", ~Q(state=State.SENDING) | _LEASED),
            _always("dead_has_a_reason", (Q(state=State.DEAD) & _REASONED) | (~Q(state=State.DEAD) & ~_REASONED)),
            _always("committed_rows_have_times", Q(state__in=[State.DRAFT, State.WITHDRAWN]) | _COMMITTED),
            _always("final_rows_have_an_end", ~Q(state__in=sorted(FINAL)) | Q(finished_at__isnull=False)),
        ]
        indexes = [
            models.Index(
                fields=["organization", "rank_at"], condition=Q(state=State.QUEUED, is_head=True), name="mod_claim"
            ),
            models.Index(
                fields=["not_before"], condition=Q(state=State.UNKNOWN) | ~Q(read_back_for=""), name="mod_proof"
            ),
            models.Index(fields=["lease_until"], condition=Q(state__in=sorted(IN_FLIGHT)), name="mod_lease"),
            models.Index(fields=["delivery_id"], condition=Q(state__in=sorted(IN_FLIGHT)), name="mod_delivery"),
            models.Index(fields=["record", "queued_at", "id"], condition=_LANE, name="mod_lane"),
            models.Index(
                fields=["organization", "state"], condition=~Q(state__in=sorted(FINAL)), name="mod_open_states"
            ),
            models.Index(F("organization"), F("saved_at").desc(), F("id"), name="mod_newest_first"),
            models.Index(
                fields=["organization", "author", "record"], condition=Q(state=State.DRAFT), name="mod_drafts"
            ),
            models.Index(fields=["job", "state"], name="mod_job"),
            models.Index(fields=["record", "-saved_at"], name="mod_of_record"),
        ]

    @property
    def is_delete(self) -> bool:
        return self.operation == Operation.DELETE
