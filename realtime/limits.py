"""The numbers of the socket side. `settings.REALTIME` may override any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from django.conf import settings


@dataclass(frozen=True)
class Limits:
    messages_per_second: int = 20  # of one socket, from the client; more is 4429
    message_characters: int = 1_000  # longer ones are ignored
    sockets_per_user: int = 2_000  # in one process; more is 4429
    send_seconds: float = 5.0  # one frame may wait this long for the client to read; then 4408
    resumable_events: int = 1_000  # missed more: RESET (API.md)
    kept_events: int = 2_000  # in memory per organization; a socket further behind is 4408
    events_per_frame: int = 500  # keeps frames well under the 1 MiB that clients accept by default
    fold_seconds: float = 0.05  # on average at most one broadcast in this time (API.md)
    broadcasts_at_once: int = 3  # after a pause: an edit's few events are not held up by each other
    grace_seconds: float = 0.1  # a new socket is sent nothing for so long, unless it resumes: RESUME comes first
    look_seconds: float = 1.0  # the hub asks the journal by itself this often
    recheck_seconds: float = 2.0  # revocation is due within 5 s
    idle_seconds: float = 30.0  # an organization without sockets is followed on for so long

    @classmethod
    def of_this_process(cls) -> Self:
        return cls(**getattr(settings, "REALTIME", {}))
