"""One clock for arrivals, versions and outages."""

import time
from datetime import UTC, datetime


class Clock:
    """Wall time that does not jump while the process lives: a window of one second must be a second long."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._offset + time.monotonic()


def stamp(seconds: float) -> str:
    """UTC text of fixed width, so that text order is time order."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def stamp_of(text: str) -> str:
    """A caller's date or time in the form of `stamp`; without an offset it is taken as UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return (
        (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
        .astimezone(UTC)
        .strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    )


def seconds_of(text: str) -> float:
    """The inverse of `stamp`."""
    return datetime.fromisoformat(text).timestamp()
