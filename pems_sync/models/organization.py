"""Who may do what where: connections, organizations, memberships."""

from __future__ import annotations

from enum import StrEnum

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q


class Permission(StrEnum):
    """What a membership allows (API.md)."""

    READ = "read"
    DRAFT = "draft"
    EDIT_FORECAST = "edit_forecast"
    EDIT_ACTUALS = "edit_actuals"
    SYNC = "sync"
    RESOLVE = "resolve"
    ROLLBACK = "rollback"
    VIEW_FINANCIALS = "view_financials"
    MANAGE = "manage"


class Role(models.TextChoices):
    VIEWER = "viewer"
    PLANNER = "planner"
    LEAD = "lead"
    ADMIN = "admin"


_VIEWER = [Permission.READ, Permission.VIEW_FINANCIALS]
_PLANNER = [*_VIEWER, Permission.DRAFT, Permission.EDIT_FORECAST, Permission.SYNC, Permission.RESOLVE]
_LEAD = [*_PLANNER, Permission.EDIT_ACTUALS, Permission.ROLLBACK]
ROLE_PERMISSIONS: dict[str, list[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.PLANNER: _PLANNER,
    Role.LEAD: _LEAD,
    Role.ADMIN: [*_LEAD, Permission.MANAGE],
}


class Dialect(models.TextChoices):
    GATEWAY = "gateway"


class Connection(models.Model):
    """One PEMS endpoint. Its organizations share its limit of requests per second."""

    slug = models.SlugField(unique=True)
    dialect = models.CharField(max_length=16, choices=Dialect, default=Dialect.GATEWAY)
    base_url = models.URLField(max_length=300)
    tenant = models.CharField(max_length=64)
    secret_name = models.CharField(max_length=200, help_text="name in the secrets backend, never the secret itself")
    requests_per_second = models.FloatField(default=10)
    batch_size = models.PositiveSmallIntegerField(default=100, help_text="1: single writes only")
    guarded = models.BooleanField(
        default=True, help_text="PEMS enforces versions; without it nothing is resent by machine"
    )

    paused_at = models.DateTimeField(null=True, blank=True)
    paused_reason = models.CharField(max_length=500, blank=True, default="")
    held_until = models.DateTimeField(null=True, blank=True, help_text="Retry-After of PEMS, or rest after faults")
    held_reason = models.CharField(max_length=500, blank=True, default="")
    fault_streak = models.PositiveIntegerField(default=0, help_text="connection faults since the last answer")
    batch_absent_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(requests_per_second__gt=0), name="connection_limit_is_positive"),
            models.CheckConstraint(condition=Q(batch_size__range=(1, 100)), name="connection_batch_size_1_to_100"),
        ]

    def __str__(self) -> str:
        return self.slug


class Organization(models.Model):
    """A tenant."""

    slug = models.SlugField(unique=True, help_text="`organizationId` on the wire")
    code = models.CharField(max_length=32, help_text="PEMS's code of it")
    name = models.CharField(max_length=200)
    connection = models.ForeignKey(Connection, on_delete=models.PROTECT, related_name="organizations")
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_reason = models.CharField(max_length=500, blank=True, default="")
    claimed_at = models.DateTimeField(null=True, blank=True, help_text="last turn in the round robin")
    pulled_at = models.DateTimeField(null=True, blank=True, help_text="end of the last complete pull")
    merge_disjoint = models.BooleanField(
        default=True, help_text="PEMS moved in other fields only: go on without asking a person"
    )
    money_threshold = models.DecimalField(
        max_digits=14,
        decimal_places=2,
        null=True,
        blank=True,
        help_text="an amount changed by more than this is never settled by a policy; empty: no threshold",
    )
    second_approval = models.BooleanField(
        default=False, help_text="above the threshold, resolutions and rollbacks need another person's approval"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["connection", "code"], name="organization_code_once_per_connection")
        ]

    def __str__(self) -> str:
        return self.slug


class Membership(models.Model):
    """A user's permissions in one organization, preset by role."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role)
    permissions = ArrayField(
        models.CharField(max_length=32, choices=[(p.value, p.value) for p in Permission]), blank=True, default=list
    )

    class Meta:
        constraints = [models.UniqueConstraint(F("user"), F("organization"), name="membership_once_per_organization")]

    def save(self, *args: object, **kwargs: object) -> None:
        if not self.permissions:
            self.permissions = [str(permission) for permission in ROLE_PERMISSIONS[self.role]]
        super().save(*args, **kwargs)  # type: ignore[arg-type]

    def allows(self, permission: Permission) -> bool:
        return permission in self.permissions
