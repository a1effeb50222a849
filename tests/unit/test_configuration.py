"""Settings: a value that cannot be used stops the start with a sentence an operator can act on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.configuration import SETTINGS, read

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {setting.name: setting for setting in SETTINGS}
FREE_TEXT = {
    "VAR_DIR", "SECRET_KEY", "ALLOWED_HOSTS", "PEMS_USER", "PEMS_PASSWORD", "PEMS_API_KEY", "PEMS_WEBHOOK_SECRET",
}  # fmt: skip
BAD = {
    "DATABASE_URL": ("nonsense", "mysql://a:hush@127.0.0.1/x", "postgres://a:hush@127.0.0.1:port/x"),
    "REDIS_URL": ("nonsense", "http://:hush@127.0.0.1/0", "redis://:hush@127.0.0.1:99999/0"),
    "SECRETS_BACKEND": ("vault", "AWS"),
    "SECRETS_CACHE_SECONDS": ("-1", "soon", "1.5"),
    "PEMS_API_RATE_LIMIT": ("0", "-1", "nan", "inf", "ten"),
    "PEMS_BATCH": ("maybe", "2"),
    "PEMS_REQUEST_TIMEOUT": ("0", "nan", "twenty"),
    "API_USER_RATE_LIMIT": ("0", "2.5"),
    "LOGIN_FAILURE_LIMIT": ("0", "none"),
    "ENABLE_WRITE_SYNC": ("maybe",),
    "WRITE_SYNC_BATCH_SIZE": ("0", "many"),
    "WRITE_SYNC_MAX_RETRIES": ("-1", "1e3"),
    "WRITE_SYNC_RETRY_DELAY": ("0", "inf"),
    "CLAIM_LEASE_SECONDS": ("0", "long"),
    "WORKER_WATCHDOG_SECONDS": ("-1", "soon", "2.5"),
    "PROOF_DELAYS": (",", "2,x", "0", "2,-1"),
    "PULL_INTERVAL_SECONDS": ("0", "often"),
    "PULL_OVERLAP_SECONDS": ("-1", "some"),
    "SWEEP_HOUR_UTC": ("24", "-1", "night"),
    "DATABASE_POOL_SIZE": ("0", "x"),
    "METRICS_NETWORKS": ("everywhere", "10.0.0.1/8"),
    "LOG_LEVEL": ("loud", "info"),
}


def test_every_setting_that_can_be_wrong_is_tried_below():
    assert set(BY_NAME) == FREE_TEXT | set(BAD)
    assert len(BY_NAME) == len(SETTINGS)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_a_bad_value_is_refused_with_its_name_and_meaning(name: str, text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, text)
    with pytest.raises(ImproperlyConfigured) as refused:
        read(name)
    sentence = str(refused.value)
    assert sentence.startswith(f"{name}: ")
    assert BY_NAME[name].meaning in sentence
    assert "hush" not in sentence
    assert BY_NAME[name].secret or text in sentence


@pytest.mark.parametrize("name", BY_NAME)
def test_unset_and_empty_mean_the_default(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(name, raising=False)
    default = read(name)
    monkeypatch.setenv(name, "")
    assert read(name) == default == BY_NAME[name].cast(BY_NAME[name].default)


def test_a_value_is_taken_as_it_stands(monkeypatch: pytest.MonkeyPatch):
    """A signing key may well begin with a dollar sign."""
    monkeypatch.setenv("SECRET_KEY", "$HOME\\$")
    assert read("SECRET_KEY") == "$HOME\\$"


def test_no_other_setting_is_read_and_each_is_used():
    code = [path for app in ("config", "pems_sync", "deploy/local") for path in (ROOT / app).rglob("*.py")]
    text = "\n".join(path.read_text() for path in code if path.name != "configuration.py")
    assert set(re.findall(r'configuration\.read\("([A-Z_]+)"\)', text)) <= set(BY_NAME)
    assert [name for name in BY_NAME if f'"{name}"' not in text] == []


def test_the_start_stops_with_the_sentence():
    done = check({"PROOF_DELAYS": "2,x"}, "config.settings.local")
    assert done.returncode != 0
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith("PROOF_DELAYS: '2,x' cannot be used. It means: " + BY_NAME["PROOF_DELAYS"].meaning + ".")
    )


PRODUCTION = {
    "SECRET_KEY": "$" + "".join(chr(33 + number) for number in range(60)),
    "ALLOWED_HOSTS": "pems.example.com",
    "DATABASE_URL": "postgres://pems:x@127.0.0.1:1/pems",
    "REDIS_URL": "redis://127.0.0.1:1/0",
}


def test_production_passes_the_deployment_check():
    done = check(PRODUCTION, "config.settings.production", "--deploy", "--fail-level", "WARNING")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PRODUCTION)
def test_production_does_not_start_without(name: str):
    done = check(PRODUCTION | {name: ""}, "config.settings.production")
    assert done.returncode != 0
    assert f"{name} must be set in production." in done.stderr


def check(environment: dict[str, str], settings: str, *options: str) -> subprocess.CompletedProcess[str]:
    """`manage.py check` in a process of its own: settings are read once per process."""
    inherited = {name: value for name, value in os.environ.items() if name not in BY_NAME}
    env = {**inherited, "DJANGO_SETTINGS_MODULE": settings, **environment}
    command = [sys.executable, "manage.py", "check", *options]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
