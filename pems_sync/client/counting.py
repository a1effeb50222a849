"""What came of the last requests of a connection, counted in Redis for the whole fleet, so that no row changes with every
answer. Lost with Redis are these counts and no more: the state of the breaker is in the row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from pems_sync.client.breaker import WINDOW_SECONDS, Counts, Seen

KEPT_SECONDS = 300

_COUNT = f"""
local second = tonumber(redis.call('TIME')[1])
local seen, answered, failed = ARGV[1], 0, 0
redis.call('HINCRBY', KEYS[1], (seen == 'answered' and 'a' or 'f') .. second, 1)
if seen == 'answered' then redis.call('HDEL', KEYS[1], 'in_a_row', 'unreached')
else redis.call('HINCRBY', KEYS[1], 'in_a_row', 1) end
if seen == 'unreached' then redis.call('HINCRBY', KEYS[1], 'unreached', 1) end
local fields = redis.call('HGETALL', KEYS[1])
for place = 1, #fields, 2 do
  local name, number = fields[place], tonumber(fields[place + 1])
  if name ~= 'unreached' and name ~= 'in_a_row' then
    if tonumber(string.sub(name, 2)) <= second - {WINDOW_SECONDS} then redis.call('HDEL', KEYS[1], name)
    elseif string.sub(name, 1, 1) == 'a' then answered = answered + number
    else failed = failed + number end
  end
end
redis.call('EXPIRE', KEYS[1], {KEPT_SECONDS})
local rows = redis.call('HMGET', KEYS[1], 'in_a_row', 'unreached')
return {{answered, failed, tonumber(rows[1] or 0), tonumber(rows[2] or 0)}}
"""


class Counting:
    """One script per request, by Redis TIME."""

    def __init__(self, store: redis.Redis, *, connection: str) -> None:
        self._store = store
        self._key = f"pems-sync:breaker:{connection}"
        self._count: Callable[..., Any] = store.register_script(_COUNT)

    def count(self, seen: Seen) -> Counts:
        """Nothing counted without Redis: then nothing is sent either (S11)."""
        try:
            counts = self._count(keys=[self._key], args=[seen.value])
        except redis.RedisError:
            return Counts()
        return Counts(*map(int, counts))

    def forget(self) -> None:
        """The breaker closed: what was before says nothing about now."""
        try:
            self._store.delete(self._key)
        except redis.RedisError:
            return
