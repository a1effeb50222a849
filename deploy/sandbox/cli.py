"""The command line, the same for `manage.py pems_sandbox` and `python -m deploy.sandbox`. Imports no Django."""

import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from .server import PortTakenError, serve
from .statelog import StateFileError

_OPTIONS = ("host", "port", "records", "seed", "state", "rate_limit", "latency_ms")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--port", type=_whole, default=8090, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--records", type=_whole, default=8807)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, default=None, help="file that carries all writes over a restart")
    parser.add_argument("--rate-limit", type=_whole, default=10, help="requests a second; 0 counts and refuses none")
    parser.add_argument("--latency-ms", type=_whole, default=0, help="how long each request takes")


def run(options: dict[str, Any]) -> int:
    """The exit status: 0 after a signal to stop, 2 when it could not start."""
    try:
        serve(**{name: options[name] for name in _OPTIONS})
    except (PortTakenError, StateFileError) as error:
        print(f"pems_sandbox: {error}", file=sys.stderr)
        return 2
    return 0


def main() -> int:
    parser = ArgumentParser(prog="pems_sandbox", description="A stand-in for PEMS on real HTTP.")
    add_arguments(parser)
    return run(vars(parser.parse_args()))


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)
