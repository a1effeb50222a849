"""The knobs of a stack, as outside tools set them in the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.program import ROOT, StackError

ROLES = frozenset({"sandbox", "worker-write", "worker-control", "beat", "flower", "web"})
PASSED_ON = ("PEMS_API_RATE_LIMIT", "PEMS_BATCH", "API_USER_RATE_LIMIT")


@dataclass(frozen=True)
class Options:
    """What to run and where. A port of None is a free one that `var_dir` remembers."""

    var_dir: Path = ROOT / "var"
    port: int | None = None
    flower_port: int | None = None
    sandbox_port: int | None = None
    write_workers: int = 2
    web_processes: int = 1  # the first at `port`, the others at free ones
    pems_url: str = ""  # empty: our own sandbox
    pems_user: str = "sandbox"
    pems_password: str = "sandbox"  # noqa: S105  (of the sandbox, which listens on 127.0.0.1)
    pems_tenant: str = "DEMO"
    pems_webhook_secret: str = ""  # empty: made up once, and kept
    demo_password: str = "pems-demo"  # noqa: S105  (of the demo users, which is printed)
    passed_on: Mapping[str, str] = field(default_factory=dict)  # settings that only the application reads
    records: int = 8_807  # in the sandbox
    roles: frozenset[str] = ROLES
    pull: bool = True
    own_services: bool = False  # also when DATABASE_URL or REDIS_URL is given: tests need servers that may be killed
    throwaway: bool = False
    extra_env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by role or process; for tests

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> "Options":
        """StackError for a knob that is not what it must be."""
        plain = cls()
        return cls(
            var_dir=Path(env.get("VAR_DIR") or plain.var_dir).absolute(),
            port=number(env, "PORT", 8000, highest=65_535),
            flower_port=number(env, "FLOWER_PORT", None, highest=65_535),
            sandbox_port=number(env, "SANDBOX_PORT", None, highest=65_535),
            write_workers=number(env, "WRITE_WORKERS", plain.write_workers, highest=64) or plain.write_workers,
            web_processes=number(env, "WEB_PROCESSES", plain.web_processes, highest=16) or plain.web_processes,
            pems_url=env.get("PEMS_URL", "").rstrip("/"),
            pems_user=env.get("PEMS_USER") or plain.pems_user,
            pems_password=env.get("PEMS_PASSWORD") or plain.pems_password,
            pems_tenant=env.get("PEMS_TENANT") or plain.pems_tenant,
            pems_webhook_secret=env.get("PEMS_WEBHOOK_SECRET", ""),
            demo_password=env.get("DEMO_PASSWORD") or plain.demo_password,
            passed_on={name: env[name] for name in PASSED_ON if env.get(name)},
        )


def number(env: Mapping[str, str], name: str, default: int | None, *, highest: int) -> int | None:
    """A whole number from 1 up to `highest`, or the default where the environment has none."""
    text = env.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= highest:
        raise StackError(f"{name}={text!r} is not a whole number between 1 and {highest}.")
    return int(text)
