"""The unprivileged account that PostgreSQL runs as when we are root (it refuses to run as root)."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    name: str
    user_id: int
    group_id: int

    def obstacle(self, path: Path) -> Path | None:
        """The first directory on the way to `path`, itself included, that this account may not enter; else None."""
        way = [*reversed(path.parents), path]
        return None if self._may_enter(path) else next(place for place in way if not self._may_enter(place))

    def _may_enter(self, directory: Path) -> bool:
        # Asked of the system as that account: mode bits alone miss ACLs, mount options and user namespaces.
        question = [shutil.which("test") or "/usr/bin/test", "-x", str(directory)]
        answer = subprocess.run(question, user=self.user_id, group=self.group_id, extra_groups=[], cwd="/", check=False)
        return answer.returncode == 0

    def own(self, path: Path) -> None:
        os.chown(path, self.user_id, self.group_id)


def unprivileged() -> Account | None:
    """The account to drop to, or None when we are an ordinary user already."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = next((known[name] for name in CANDIDATES if name in known), None)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid) if entry else Account("65534", 65534, 65534)
