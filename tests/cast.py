"""The fixed cast: two organizations on one connection, and the people who may or may not touch them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

from django.contrib.auth.models import User
from knox.models import AuthToken
from rest_framework.test import APIClient

from pems_sync.client.base import content_hash
from pems_sync.fields import FIELDS, Kind, Values
from pems_sync.models import Connection, Membership, Organization, Record
from pems_sync.models.organization import Role
from pems_sync.records import remember

_numbers = count(10_001)


@dataclass(frozen=True)
class Cast:
    planner: User
    second: User  # another planner of the same organization
    lead: User
    viewer: User
    admin: User
    outsider: User  # planner of the other organization


def make_connection(**fields: Any) -> Connection:
    defaults = {"slug": "demo", "base_url": "http://127.0.0.1:1", "tenant": "DEMO", "secret_name": "pems-sync/demo"}
    return Connection.objects.create(**defaults | fields)


def make_organization(connection: Connection, slug: str, code: str) -> Organization:
    return Organization.objects.create(slug=slug, code=code, name=code.title(), connection=connection)


def make_user(username: str, organization: Organization, role: Role) -> User:
    user = User.objects.create_user(username, password="a-password")
    Membership.objects.create(user=user, organization=organization, role=role)
    return user


def make_cast(rio: Organization, portarthur: Organization) -> Cast:
    return Cast(
        planner=make_user("rio-planner", rio, Role.PLANNER),
        second=make_user("rio-second", rio, Role.PLANNER),
        lead=make_user("rio-lead", rio, Role.LEAD),
        viewer=make_user("rio-viewer", rio, Role.VIEWER),
        admin=make_user("rio-admin", rio, Role.ADMIN),
        outsider=make_user("portarthur-planner", portarthur, Role.PLANNER),
    )


PLAUSIBLE: Values = {
    "description": "Excavator 30T", "category": "Earthmoving", "class": "Excavator", "source": "Rental", "dor": "PROJECT",
    "areaSilo": "North", "manufacturer": "CAT", "model": "330", "monthlyRate": "5500.00",
    "originalStart": "2026-01-01", "originalEnd": "2026-06-30", "forecastStart": "2026-01-15", "forecastEnd": "2026-06-30",
    "hasPlan": True, "contract": "C-100",
}  # fmt: skip


def plausible(**changed: Any) -> Values:
    empty: Values = {name: False if field.kind is Kind.FLAG else None for name, field in FIELDS.items()}
    return {**empty, **PLAUSIBLE, **changed}


def make_record(organization: Organization, *, pfa_id: str = "", version: int = 4, **changed: Any) -> Record:
    fields = plausible(**changed)
    record = Record.objects.create(
        organization=organization, pfa_id=pfa_id or f"PFA-{next(_numbers)}", version=version, fields=fields,
        content_hash=content_hash(fields), changed_by="j.doe",
    )  # fmt: skip
    remember([record], {})
    return record


def api_client(user: User) -> APIClient:
    """Signed in with a bearer token, as other people's clients are."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {AuthToken.objects.create(user)[1]}")
    return client
