"""The wall clock of this process is off by CLOCK_SHIFT_SECONDS. Python imports this at its start, before anybody has
taken hold of `time.time` or `datetime`; monotonic time stays as it is.

Instances are always of the real classes, so that whoever looks at `type(value)` in C or Python meets what it knows.
"""

import datetime
import os
import time
from typing import Any

SHIFT = float(os.environ.get("CLOCK_SHIFT_SECONDS", "0"))
real_time, real_time_ns = time.time, time.time_ns
real_datetime = datetime.datetime


class _Alike(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, real_datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, real_datetime)


class ShiftedDatetime(datetime.datetime, metaclass=_Alike):
    def __new__(cls, *words: Any, **more: Any) -> Any:
        return real_datetime.__new__(real_datetime, *words, **more)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return real_datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return real_datetime.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)


if SHIFT:
    time.time = lambda: real_time() + SHIFT
    time.time_ns = lambda: real_time_ns() + int(SHIFT * 1e9)
    datetime.datetime = ShiftedDatetime  # type: ignore[misc]
