"""`make up`: everything in the foreground until Ctrl-C or SIGTERM.

usage: python -m deploy.local.up          (the knobs are environment variables: see options.py)
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from deploy.local.options import Options
from deploy.local.program import StackError
from deploy.local.stack import Stack

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REFUSED = 2


class ToldToStop(BaseException):
    """Ctrl-C, SIGTERM, or the terminal is gone. Not an Exception: nothing on the way may mistake it for a failure."""


def main() -> int:
    try:
        with ending_on_signals():
            run(Options.from_environment())
    except ToldToStop:
        say("Stopped.")
    except StackError as error:
        print(error, file=sys.stderr, flush=True)
        return REFUSED
    return 0


def run(options: Options) -> None:
    with Stack(options, report=say) as stack:
        say(welcome(stack))
        try:
            threading.Event().wait()
        except ToldToStop:
            say("Stopping")
            raise


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Turns the first order to stop into `ToldToStop` in the main thread; further ones do not disturb the stopping."""
    before = {number: signal.signal(number, _stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise ToldToStop


def welcome(stack: Stack) -> str:
    """Where everything is and how to sign in."""
    options = stack.options
    places = {
        "application": stack.base_url,
        "admin": f"{stack.base_url}/admin/",
        "API": f"{stack.base_url}/api/docs",
        "Flower": f"{stack.flower_url}   (support / {options.demo_password})",
        "PEMS": stack.sandbox_url or options.pems_url,
        "logs": f"{options.var_dir}/log",
    }
    users = "admin, and planner, lead, viewer, admin of each organization: rio-planner, portarthur-lead, holng-admin, …"
    lines = ["", "pems-sync is ready.", *(f"  {name:<12} {place}" for name, place in places.items())]
    return "\n".join(
        [*lines, f"  sign in as   {users}", f"  password     {options.demo_password}", "Ctrl-C stops it.", ""]
    )


def say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main())
