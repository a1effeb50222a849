"""Credentials: fetched by name, kept five minutes, fetched anew when refused, never shown."""

import json
from dataclasses import dataclass, field

import boto3
import pytest
from moto import mock_aws

from pems_sync.client import secrets as module
from pems_sync.client.secrets import AwsSecrets, CachedSecrets, Credentials, EnvironmentSecrets, SecretsUnavailableError

SECRET = {"user": "engine", "password": "canary-password", "apiKey": "canary-key", "webhookSecret": "canary-hook"}
NAME = "pems-sync/demo"


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Vault:
    """A provider that can be out of order, and counts."""

    credentials: Credentials = field(default_factory=lambda: Credentials("engine", "first"))
    broken: bool = False
    fetched: int = 0

    def fetch(self, name: str) -> Credentials:
        self.fetched += 1
        if self.broken:
            raise SecretsUnavailableError(name)
        return self.credentials


@pytest.fixture
def aws(monkeypatch):
    for name, value in {"REGION": "eu-central-1", "DEFAULT_REGION": "eu-central-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        yield boto3.client("secretsmanager")


def test_a_secret_is_read_from_secrets_manager(aws):
    aws.create_secret(Name=NAME, SecretString=json.dumps(SECRET))
    assert AwsSecrets().fetch(NAME) == Credentials("engine", "canary-password", "canary-key", "canary-hook")


@pytest.mark.parametrize("text", ["no json", "[]", '"text"', "5"])
def test_a_secret_that_is_missing_or_no_object_is_unavailable_and_not_shown(aws, text):
    with pytest.raises(SecretsUnavailableError):
        AwsSecrets().fetch(NAME)
    aws.create_secret(Name=NAME, SecretString=text)
    with pytest.raises(SecretsUnavailableError) as refused:
        AwsSecrets().fetch(NAME)
    assert text not in str(refused.value) or len(text) < 3


def test_a_secret_is_kept_for_five_minutes_and_no_longer(aws):
    clock = Clock()
    cached = CachedSecrets(AwsSecrets(), seconds=300, clock=clock)
    aws.create_secret(Name=NAME, SecretString=json.dumps(SECRET))
    assert cached.fetch(NAME).password == "canary-password"
    aws.put_secret_value(SecretId=NAME, SecretString=json.dumps(SECRET | {"password": "rotated"}))
    clock.seconds = 299.9
    assert cached.fetch(NAME).password == "canary-password"
    clock.seconds = 300
    assert cached.fetch(NAME).password == "rotated"


def test_refused_credentials_are_fetched_anew_at_once(aws):
    cached = CachedSecrets(AwsSecrets(), seconds=300, clock=Clock())
    aws.create_secret(Name=NAME, SecretString=json.dumps(SECRET))
    cached.fetch(NAME)
    assert not cached.refresh(NAME), "they are the same: the connection pauses"
    aws.put_secret_value(SecretId=NAME, SecretString=json.dumps(SECRET | {"password": "rotated"}))
    assert cached.refresh(NAME), "they are others: no pause"
    assert cached.fetch(NAME).password == "rotated"


def test_when_secrets_cannot_be_fetched_the_last_known_one_serves_on():
    clock, vault = Clock(), Vault()
    cached = CachedSecrets(vault, seconds=300, clock=clock)
    cached.fetch(NAME)
    vault.broken, clock.seconds = True, 301
    assert cached.fetch(NAME).password == "first"
    assert vault.fetched == 2
    cached.fetch(NAME)
    assert vault.fetched == 2, "it is not asked for at every request"


def test_a_refresh_that_fails_keeps_the_last_known_secret():
    vault = Vault()
    cached = CachedSecrets(vault, seconds=300, clock=Clock())
    cached.fetch(NAME)
    vault.broken = True
    with pytest.raises(SecretsUnavailableError):
        cached.refresh(NAME)
    assert cached.fetch(NAME).password == "first"


def test_a_refresh_of_what_was_never_fetched_tells_when_there_is_nothing():
    vault = Vault(broken=True)
    with pytest.raises(SecretsUnavailableError):
        CachedSecrets(vault, seconds=300, clock=Clock()).refresh(NAME)
    vault.broken = False
    assert CachedSecrets(vault, seconds=300, clock=Clock()).refresh(NAME)


def test_without_a_known_secret_a_failure_is_told():
    with pytest.raises(SecretsUnavailableError):
        CachedSecrets(Vault(broken=True), seconds=300, clock=Clock()).fetch(NAME)


def test_the_environment_serves_every_connection(monkeypatch):
    for name in ("PEMS_USER", "PEMS_PASSWORD", "PEMS_API_KEY", "PEMS_WEBHOOK_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SecretsUnavailableError, match="PEMS_USER"):
        EnvironmentSecrets().fetch(NAME)
    monkeypatch.setenv("PEMS_API_KEY", "canary-key")
    assert EnvironmentSecrets().fetch(NAME).api_key == "canary-key"


def test_the_backend_is_chosen_by_a_setting(settings, monkeypatch, aws):
    monkeypatch.setattr(module, "_cached", None)
    settings.SECRETS_BACKEND = "aws"
    aws.create_secret(Name=NAME, SecretString=json.dumps(SECRET))
    assert module.secrets().fetch(NAME).user == "engine"
    assert module.secrets() is module.secrets()
    monkeypatch.setattr(module, "_cached", None)


def test_no_secret_is_in_a_repr():
    credentials = Credentials("engine", "canary-password", "canary-key", "canary-hook")
    cached = CachedSecrets(Vault(credentials), seconds=300)
    cached.fetch(NAME)
    assert "canary" not in f"{credentials!r} {credentials} {cached!r} {vars(cached)!r}"
