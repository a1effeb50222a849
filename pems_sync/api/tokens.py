"""Sign in with a name and a password, get a bearer token; revoke it. Failures are counted, successes are not."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from knox.models import AuthToken
from limits import RateLimitItemPerMinute
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.response import Response

from pems_sync import events
from pems_sync.api import shapes, windows
from pems_sync.api.endpoint import Endpoint, body_of
from pems_sync.api.strict import Strict, Text, checked
from pems_sync.api.wire import stamp
from pems_sync.errors import DomainError
from pems_sync.journal import unit_of_work

FAILURES_OF_AN_ADDRESS = 10
"""Times the limit of one user: an office behind one address may mistype more often than one person."""


class InvalidCredentialsError(DomainError):
    """No active user has this name and password."""

    code, status = "INVALID_CREDENTIALS", 401


class NoTokenError(DomainError):
    """This request was not signed in with a token, so there is none to revoke."""

    code, status = "NO_TOKEN", 400


class Credentials(Strict):
    username = Text(max_length=150)
    password = Text(max_length=1000, trim_whitespace=False)


class TokenView(Endpoint):
    """POST needs no sign-in and looks at no cookie or header, so there is nothing to forge; DELETE needs a token."""

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        if request.method == "POST":
            self.authentication_classes, self.permission_classes = (), ()
        return super().initialize_request(request, *args, **kwargs)

    @extend_schema(
        "sign_in",
        request=Credentials,
        responses={
            200: shapes.Token,
            401: OpenApiResponse(shapes.ErrorShape, "wrong"),
            **shapes.answers(400, 413, 415),
        },
        auth=[],
    )
    def post(self, request: Request) -> Response:
        wanted = checked(Credentials, body_of(request))
        address = str(request.META.get("REMOTE_ADDR", ""))
        user = _verified(request, address, wanted["username"], wanted["password"])
        token, expires_at = _issue(user)
        return Response({"token": token, "expiresAt": stamp(expires_at)})

    @extend_schema("sign_out", request=None, responses={204: None, **shapes.answers(400)})
    def delete(self, request: Request) -> Response:
        if not isinstance(request.auth, AuthToken):
            raise NoTokenError
        with unit_of_work() as work:
            request.auth.delete()
            work.record(events.TokenRevoked(organization_id=None, actor=request.user.get_username()))
        return Response(status=204)


def _verified(request: Request, address: str, username: str, password: str) -> AbstractBaseUser:
    """Raises Throttled after too many failures of this user from this address, or of this address, and
    InvalidCredentialsError. An unknown name takes as long as a wrong password: Django hashes for it as well."""
    of_user = RateLimitItemPerMinute(int(settings.LOGIN_FAILURE_LIMIT))
    of_address = RateLimitItemPerMinute(int(settings.LOGIN_FAILURE_LIMIT) * FAILURES_OF_AN_ADDRESS)
    counted = ((of_user, ("login", address, username.casefold())), (of_address, ("login", address)))
    for limit, key in counted:
        if windows.is_full(limit, *key):
            raise Throttled(wait=windows.room(limit, *key)[1])
    user = authenticate(request._request, username=username, password=password)
    if user is None:
        for limit, key in counted:
            windows.take(limit, *key)
        raise InvalidCredentialsError
    return user


def _issue(user: AbstractBaseUser) -> tuple[str, datetime | None]:
    with unit_of_work() as work:
        AuthToken.objects.filter(user=user, expiry__lte=timezone.now()).delete()
        row, token = AuthToken.objects.create(user=user)
        work.record(events.SignedIn(organization_id=None, actor=user.get_username()))
    return token, cast("datetime | None", row.expiry)
