"""The command lines of the roles."""

import sys
from pathlib import Path

from deploy.local.options import Options

PYTHON = (sys.executable, "-m")
CELERY = (*PYTHON, "celery", "-A", "config")
# Our workers know of each other through PostgreSQL; chatter over the broker only delays their start.
QUIET = ("--without-gossip", "--without-mingle", "-l", "INFO")


def commands(role: str, options: Options, ports: dict[str, int]) -> dict[str, tuple[str, ...]]:
    """Command line by process name, for each process of the role."""
    match role:
        case "web":
            return {name: web(ports[name]) for name in web_names(options)}
        case "worker-write":
            return {f"worker-write-{number}": write_worker(number) for number in range(1, options.write_workers + 1)}
        case "worker-control":
            return {"worker-control": control_worker()}
        case "beat":
            return {"beat": beat(options.var_dir)}
        case "flower":
            return {"flower": flower(ports["flower"])}
        case "sandbox":
            return {"sandbox": sandbox(ports["sandbox"], options)}
    raise ValueError(f"unknown role {role}")


def web_names(options: Options) -> list[str]:
    """Names of the web processes, as in `ports.json` and of their logs: `web`, `web-2`, …"""
    return ["web", *(f"web-{number}" for number in range(2, options.web_processes + 1))]


def web(port: int) -> tuple[str, ...]:
    listen = ("--host", "127.0.0.1", "--port", str(port))
    manners = ("--lifespan", "off", "--no-access-log", "--timeout-graceful-shutdown", "5")
    sockets = ("--ws", "websockets-sansio", "--ws-max-size", "65536", "--ws-per-message-deflate", "false")
    return (*PYTHON, "uvicorn", "config.asgi:application", *listen, *manners, *sockets)


def write_worker(number: int) -> tuple[str, ...]:
    name = ("-n", f"write{number}@%h")
    return (*CELERY, "worker", "-Q", "pems.write", *name, "--concurrency", "4", "-Ofair", *QUIET)


def control_worker() -> tuple[str, ...]:
    queues = "pems.dispatch,pems.read,pems.dlq"
    return (*CELERY, "worker", "-Q", queues, "-n", "control@%h", "-P", "threads", "--concurrency", "8", *QUIET)


def beat(var_dir: Path) -> tuple[str, ...]:
    return (*CELERY, "beat", "-s", str(var_dir / "beat" / "schedule"), "--pidfile=", "-l", "INFO")


def flower(port: int) -> tuple[str, ...]:
    """The password comes by FLOWER_BASIC_AUTH: a command line can be read by everybody on the machine."""
    return (*CELERY, "flower", "--address=127.0.0.1", f"--port={port}", "--read_only=True")


def sandbox(port: int, options: Options) -> tuple[str, ...]:
    data = ("--records", str(options.records), "--seed", "1", "--state", str(options.var_dir / "sandbox.jsonl"))
    limit = ("--rate-limit", options.passed_on.get("PEMS_API_RATE_LIMIT") or "10")
    return (sys.executable, "manage.py", "pems_sandbox", "--port", str(port), *limit, *data)
