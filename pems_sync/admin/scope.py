"""Whose rows a request may see. Every page of the admin is drawn from here (I12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Case, Q, QuerySet, Value, When
from django.http import HttpRequest

from pems_sync.access import memberships_of
from pems_sync.models import Membership, Organization
from pems_sync.models.organization import Permission

_Rows = TypeVar("_Rows", bound=QuerySet[Any])
_KEPT = "_pems_sync_scope"


@dataclass(frozen=True)
class Scope:
    """Memberships by organization id, with at least `read`. A superuser sees every organization and acts in none."""

    user: AbstractBaseUser | AnonymousUser
    sees_everything: bool
    memberships: Mapping[int, Membership]

    def allows_somewhere(self, permission: Permission) -> bool:
        return self.sees_everything or bool(self._where(permission))

    def acts_somewhere(self, permission: Permission) -> bool:
        """Unlike showing, deciding needs a membership."""
        return bool(self._where(permission))

    def within(self, rows: _Rows, *, path: str = "organization", permission: Permission = Permission.READ) -> _Rows:
        """Only rows of the organizations that may be seen. `path` leads from the row to its organization."""
        return rows if self.sees_everything else rows.filter(**{f"{path}__in": self._where(permission)})

    def with_money_noted(self, rows: _Rows, *, path: str) -> _Rows:
        """Each row's `money_shown` says whether its amounts may be seen: columns are drawn without the request."""
        where = self._where(Permission.VIEW_FINANCIALS)
        if self.sees_everything or len(where) in (0, len(self.memberships)):
            return rows.annotate(money_shown=Value(self.sees_everything or bool(where)))
        return rows.annotate(money_shown=Case(When(**{f"{path}__in": where}, then=True), default=False))

    def organizations(self) -> QuerySet[Organization]:
        return self.within(Organization.objects.order_by("code"), path="pk")

    def without_drafts_of_others(self) -> Q:
        return Q() if self.sees_everything else Q(committed_at__isnull=False) | Q(author=self.user.pk)

    def _where(self, permission: Permission) -> list[int]:
        # Ids instead of a subquery: with one organization PostgreSQL can read its index in the order of the list.
        return sorted(key for key, membership in self.memberships.items() if membership.allows(permission))


def scope_of(request: HttpRequest) -> Scope:
    """Read once per request; the next request reads it again."""
    scope: Scope | None = getattr(request, _KEPT, None)
    if scope is None:
        scope = _read(request.user)
        setattr(request, _KEPT, scope)
    return scope


def _read(user: AbstractBaseUser | AnonymousUser) -> Scope:
    found = {each.organization_id: each for each in memberships_of(user) if each.allows(Permission.READ)}
    superuser = bool(user.is_active and getattr(user, "is_superuser", False))
    return Scope(user, superuser, found)
