"""Starts a command that the kernel ends when its parent is gone, however the parent went (kill -9 included).

usage: python -I -S tether.py SIGNAL UID:GID|- PARENT_PID COMMAND [ARGUMENT …]

This is a program of its own and not a `preexec_fn` because code between fork and exec may hang when the parent has
threads; here it runs after an exec, alone. It replaces itself by the command, so the process id is the command's.
What it relies on:

* Linux only (`PR_SET_PDEATHSIG`); elsewhere the command simply starts untied.
* The kernel forgets the request when the user changes, so privileges are dropped first.
* "Parent" means the *thread* that started us: start commands through this from a thread that outlives them.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    death_signal, account, parent, *command = sys.argv[1:]
    if account != "-":
        drop_privileges(*map(int, account.split(":")))
    for inherited in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(inherited, signal.SIG_DFL)  # "ignored" would survive the exec
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the parent ended before its child began")
    os.execvpe(command[0], command, os.environ)  # noqa: S606  (no shell is wanted)


def drop_privileges(user_id: int, group_id: int) -> None:
    os.setgroups([group_id])
    os.setgid(group_id)
    os.setuid(user_id)


if __name__ == "__main__":
    main()
