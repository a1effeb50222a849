"""`Authorization: Bearer <token>`: hashed, expiring, revocable tokens of knox."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.plumbing import build_bearer_security_scheme_object
from knox.auth import TokenAuthentication
from knox.crypto import hash_token
from knox.models import AuthToken
from rest_framework.exceptions import AuthenticationFailed


class BearerAuthentication(TokenAuthentication):  # type: ignore[misc]  # knox is untyped
    """Knox with one query per request (its own way reads all tokens of the user), and without its 500 on odd bytes."""

    def authenticate_credentials(self, token: bytes) -> tuple[AbstractBaseUser, AuthToken]:
        refusal = AuthenticationFailed("This token is not valid, or no longer: sign in again.")
        try:
            digest = hash_token(token.decode("ascii"))
        except UnicodeDecodeError as error:
            raise refusal from error
        found = AuthToken.objects.select_related("user").filter(digest=digest).first()
        if found is None or not found.user.is_active or (found.expiry and found.expiry <= timezone.now()):
            raise refusal
        return found.user, found


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # untyped library
    """How the schema describes it."""

    target_class = "pems_sync.api.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> Any:
        return build_bearer_security_scheme_object("Authorization", "Bearer")
