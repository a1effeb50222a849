"""What Redis does for the pace: one atomic script per step, all by its own TIME, in microseconds.

The hash of a connection has no expiry. Its fields: `next`, the last slot given plus the spacing of the full limit;
`last`, that slot; `held`, nobody sends before; `inbound`, as `next` but for reads; `lowered`, a share, since `lowered_at`;
`slow_from`, the begin of a slow start; `strike_1` and `strike_2`, the last two request-level 503s, newest first.
"""

from __future__ import annotations

LEAST_SHARE = 0.1
"""Of the limit: the pace is never lowered beyond that, and a slow start begins there."""
RETURN_SECONDS = 5
"""After that long, a tenth of the limit returns."""
LOWER_SECONDS = 10
"""The pace is halved at most once in that time, and three 503s within it halve it."""
DOUBLE_SECONDS = 2
"""In a slow start the pace doubles after that long."""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

_SHARE = f"""{_NOW}
local function present_share()
  local state = redis.call('HMGET', KEYS[1], 'lowered', 'lowered_at', 'slow_from')
  local share = 1
  if state[1] and state[2] then
    local returned = math.floor(math.max(0, now - tonumber(state[2])) / {RETURN_SECONDS * 1_000_000})
    share = math.min(1, tonumber(state[1]) + {LEAST_SHARE} * returned)
  end
  if state[3] then
    local doubled = math.floor(math.max(0, now - tonumber(state[3])) / {DOUBLE_SECONDS * 1_000_000})
    if doubled < 4 then share = math.min(share, {LEAST_SHARE} * 2 ^ doubled) end
  end
  return math.max({LEAST_SHARE}, share)
end
"""

_LOWERING = f"""{_SHARE}
local function lower()
  local before = tonumber(redis.call('HGET', KEYS[1], 'lowered_at') or 0)
  if before <= now and now - before < {LOWER_SECONDS * 1_000_000} then return 0 end
  local share = math.max({LEAST_SHARE}, present_share() / 2)
  redis.call('HSET', KEYS[1], 'lowered', string.format('%.6f', share), 'lowered_at', string.format('%.0f', now))
  return 1
end
"""

RESERVE = f"""{_SHARE}
local spacing, horizon, lead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local given_up, part = tonumber(ARGV[4]), tonumber(ARGV[5])
local state = redis.call('HMGET', KEYS[1], 'next', 'held', 'inbound', 'last')
local next, held, inbound = tonumber(state[1]), tonumber(state[2] or 0), tonumber(state[3] or 0)
if not next then
    next = now + horizon + 1000000  -- a flush must not double the rate
    redis.call('HSET', KEYS[1], 'next', string.format('%.0f', next))
end
local more = math.floor(spacing / present_share()) - spacing  -- what the present pace adds to the spacing of the limit
local free = next + more
-- nobody reserved after it: its place is free again, and was far enough from the one before
if given_up > 0 and tonumber(state[4] or 0) == given_up and next == given_up + spacing then free = given_up end
local slot = math.max(free, now + lead, held)
if part > 0 and inbound + more / part > slot then
    return {{0, inbound + more / part - now}}  -- a slot reserved ahead would cost writes those before it
end
if slot - now > horizon then return {{0, slot - now}} end
redis.call('HSET', KEYS[1], 'next', string.format('%.0f', slot + spacing), 'last', string.format('%.0f', slot))
if part > 0 then redis.call('HSET', KEYS[1], 'inbound', string.format('%.0f', slot + spacing / part)) end
return {{string.format('%.0f', slot), slot - now}}
"""

ENTER = f"""{_NOW}
local slot, late = tonumber(ARGV[1]), tonumber(ARGV[2])
local held = tonumber(redis.call('HGET', KEYS[1], 'held') or 0)
if now < held then return -1 end
if now > slot + late then return -1 end
if redis.call('HEXISTS', KEYS[1], 'next') == 0 then return -1 end
return math.max(0, slot - now)
"""

HOLD = f"""{_NOW}
local release = now + tonumber(ARGV[1])
local held = tonumber(redis.call('HGET', KEYS[1], 'held') or 0)
if release > held then redis.call('HSET', KEYS[1], 'held', string.format('%.0f', release)) end
"""

LOWER = f"""{_LOWERING}
return lower()
"""

UNAVAILABLE = f"""{_LOWERING}
local before = tonumber(redis.call('HGET', KEYS[1], 'strike_2') or 0)
if before > 0 and now - before <= {LOWER_SECONDS * 1_000_000} then
  redis.call('HDEL', KEYS[1], 'strike_1', 'strike_2')
  return lower()
end
local last = redis.call('HGET', KEYS[1], 'strike_1')
if last then redis.call('HSET', KEYS[1], 'strike_2', last) end
redis.call('HSET', KEYS[1], 'strike_1', string.format('%.0f', now))
return 0
"""

SLOW_START = f"""{_NOW}
redis.call('HSET', KEYS[1], 'slow_from', string.format('%.0f', now))
"""

SHARE = f"""{_SHARE}
return tostring(present_share())
"""
