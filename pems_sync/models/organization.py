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


class Breaker(models.TextChoices):
    """Whether requests go to a connection (D10): all of them, none, or one canary at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerOverride(models.TextChoices):
    """What a person has ordered, whatever PEMS answers; empty: the machine decides."""

    NONE = ""
    OPEN = "open"
    CLOSED = "closed"


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
    # Nothing reads it: the breaker took its place. Workers of the release before still write it.
    fault_streak = models.PositiveIntegerField(default=0, help_text="connection faults since the last answer")
    batch_absent_until = models.DateTimeField(null=True, blank=True)

    breaker = models.CharField(max_length=12, choices=Breaker, default=Breaker.CLOSED, db_default=Breaker.CLOSED)
    breaker_since = models.DateTimeField(null=True, blank=True, help_text="when it came into this state")
    breaker_reason = models.CharField(max_length=500, blank=True, default="", db_default="")
    breaker_probe_at = models.DateTimeField(null=True, blank=True, help_text="open: when the next canary may go")
    breaker_canary = models.UUIDField(
        null=True, blank=True, help_text="half open: the delivery, or the read, that is the canary"
    )
    breaker_trips = models.PositiveIntegerField(default=0, db_default=0, help_text="canaries lost since it opened")
    breaker_override = models.CharField(
        max_length=8, choices=BreakerOverride, blank=True, default="", db_default="", help_text="a person's order"
    )
    breaker_override_reason = models.CharField(max_length=500, blank=True, default="", db_default="")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(requests_per_second__gt=0), name="connection_limit_is_positive"),
            models.CheckConstraint(condition=Q(batch_size__range=(1, 100)), name="connection_batch_size_1_to_100"),
        ]

    def __str__(self) -> str:
        return self.slug


class MaintenanceWindow(models.Model):
    """A time, once or again and again, in which nothing is sent to a connection, reads included."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="windows")
    name = models.CharField(max_length=100, help_text="what planners and support read as the reason")
    timezone = models.CharField(max_length=64, default="UTC", help_text="of its days and times, as in `Europe/Berlin`")
    weekdays = ArrayField(
        models.PositiveSmallIntegerField(), blank=True, default=list, help_text="0 Monday … 6 Sunday; empty: every day"
    )
    starts = models.TimeField(help_text="local time of its beginning")
    minutes = models.PositiveIntegerField(help_text="how long it lasts; it may reach into the next day")
    first_day = models.DateField(null=True, blank=True, help_text="empty: from now on")
    last_day = models.DateField(null=True, blank=True, help_text="of its beginnings; empty: for ever")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(minutes__range=(1, 7 * 24 * 60)), name="window_of_at_most_a_week"),
            models.CheckConstraint(
                condition=Q(first_day=None) | Q(last_day=None) | Q(last_day__gte=F("first_day")),
                name="window_days_in_order",
            ),
        ]

    def __str__(self) -> str:
        return self.name


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

    restored_at = models.DateTimeField(
        null=True, blank=True, help_text="restored from a backup then: nothing is sent until a full sweep has ended"
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
