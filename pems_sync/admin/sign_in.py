"""Signing in here is journalled, as it is over the API."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest

from pems_sync.events import SignedIn
from pems_sync.journal import unit_of_work


@receiver(user_logged_in)
def journal_the_sign_in(request: HttpRequest, user: AbstractBaseUser, **_: Any) -> None:
    """Only the admin's own form: the token endpoint writes its entry itself."""
    place = getattr(request, "resolver_match", None)
    if place is not None and place.app_name == "admin":
        with unit_of_work() as work:
            work.record(SignedIn(organization_id=None, actor=user.get_username(), reason="admin"))
