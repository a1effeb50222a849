"""The demo's connection, organizations and people, from the environment that `make up` sets. Safe to run again."""

from __future__ import annotations

import os
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from config import configuration
from pems_sync.models import Connection, Membership, Organization
from pems_sync.models.organization import ROLE_PERMISSIONS, Breaker, BreakerOverride, Role

ORGANIZATIONS = (
    ("org-rio", "RIO", "Rio Tinto expansion"),
    ("org-portarthur", "PORTARTHUR", "Port Arthur LNG"),
    ("org-holng", "HOLNG", "Holland LNG terminal"),
)


class Command(BaseCommand):
    help = "Creates the demo organizations and users, and points their connection to PEMS_URL."

    def handle(self, *args: Any, **options: Any) -> None:
        url, password = os.environ.get("PEMS_URL", ""), os.environ.get("DEMO_PASSWORD") or "pems-demo"
        if not url:
            raise CommandError("PEMS_URL is not set: the address of the PEMS that the demo connection speaks to.")
        connection, _ = Connection.objects.update_or_create(slug="demo", defaults=_connection(url))
        for slug, code, name in ORGANIZATIONS:
            organization, _ = Organization.objects.get_or_create(
                slug=slug, defaults={"code": code, "name": name, "connection": connection}
            )
            for role in Role.values:
                _member(f"{code.lower()}-{role}", password, organization, role)
        _user("admin", password, is_staff=True, is_superuser=True)
        self.stdout.write(f"{len(ORGANIZATIONS)} organizations on {url}")


def _connection(url: str) -> dict[str, Any]:
    return {
        "base_url": url,
        "tenant": os.environ.get("PEMS_TENANT") or "DEMO",
        "secret_name": "pems-sync/demo",
        "requests_per_second": configuration.read("PEMS_API_RATE_LIMIT"),
        "batch_size": 100 if configuration.read("PEMS_BATCH") else 1,
        "batch_absent_until": None,
        "held_until": None,
        "breaker": Breaker.CLOSED,
        "breaker_probe_at": None,
        "breaker_override": BreakerOverride.NONE,
    }


def _member(username: str, password: str, organization: Organization, role: str) -> None:
    user = _user(username, password, is_staff=True)
    rights = [str(permission) for permission in ROLE_PERMISSIONS[role]]
    Membership.objects.get_or_create(
        user=user, organization=organization, defaults={"role": role, "permissions": rights}
    )


def _user(username: str, password: str, **flags: bool) -> User:
    user, _ = User.objects.get_or_create(username=username)
    for flag, value in flags.items():
        setattr(user, flag, value)
    if not user.check_password(password):
        user.set_password(password)
    user.save()
    return user
