"""The one gate: an organization or an object for a user, else 404. Permissions are read at use, never cached."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import QuerySet

from pems_sync.errors import ForbiddenError, NotFoundError
from pems_sync.models import Connection, Job, Membership, Modification, Organization
from pems_sync.models.organization import Permission

Person = AbstractBaseUser | AnonymousUser


def memberships_of(user: Person) -> QuerySet[Membership]:
    """The organizations a signed-in, active user belongs to."""
    if not user.is_authenticated or not user.is_active:
        return Membership.objects.none()
    return Membership.objects.filter(user_id=user.pk).select_related("organization__connection")


def membership_for(user: Person, organization_slug: str, permission: Permission = Permission.READ) -> Membership:
    """The user's membership. Raises NotFoundError for strangers, ForbiddenError for members without `permission`."""
    return _allowed(user, memberships_of(user).filter(organization__slug=organization_slug).first(), permission)


def managed_connection(membership: Membership) -> Connection:
    """The connection of its organization, for whoever manages all that share it. Raises ForbiddenError."""
    connection = membership.organization.connection
    managed = memberships_of(membership.user).filter(permissions__contains=[Permission.READ, Permission.MANAGE])
    sharing = Organization.objects.filter(connection=connection)
    if sharing.exclude(pk__in=managed.values("organization_id")).exists():
        raise ForbiddenError(
            "Other organizations share this connection to PEMS: only who may manage all of them gives it orders."
        )
    return connection


def modification_for(
    user: Person, modification_id: UUID, permission: Permission = Permission.READ
) -> tuple[Membership, Modification]:
    """A modification and the membership through which it is seen. Other people's drafts do not exist for you."""
    row = (
        Modification.objects.select_related("record", "organization", "author", "job")
        .filter(pk=modification_id)
        .first()
    )
    membership = _membership_in(user, row.organization_id if row else None, permission)
    if row is None or (row.committed_at is None and row.author_id != user.pk):
        raise NotFoundError
    return membership, row


def job_for(user: Person, job_id: UUID, permission: Permission = Permission.READ) -> tuple[Membership, Job]:
    job = Job.objects.select_related("organization", "author").filter(pk=job_id).first()
    membership = _membership_in(user, job.organization_id if job else None, permission)
    if job is None:
        raise NotFoundError
    return membership, job


def _membership_in(user: Person, organization_id: int | None, permission: Permission) -> Membership:
    membership = memberships_of(user).filter(organization_id=organization_id).first() if organization_id else None
    return _allowed(user, membership, permission)


def _allowed(user: Person, membership: Membership | None, permission: Permission) -> Membership:
    if membership is None or not membership.allows(Permission.READ):
        raise NotFoundError
    if not membership.allows(permission):
        raise ForbiddenError(
            f"This needs the permission '{permission}', which your role '{membership.role}' does not have."
        )
    membership.user = cast(User, user)  # read for this request already: not again
    return membership
