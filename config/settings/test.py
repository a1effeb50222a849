"""Tests: the local settings with fast password hashing. Services come from tests/services.py."""

from config.settings.local import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # test users only
