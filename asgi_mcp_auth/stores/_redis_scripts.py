"""The Lua scripts of RedisStore. Each is atomic, and receives every key that it touches.

A key without a hash, or with a hash without our fields, counts as absent: a foreign value must not
cause an error. Commands that need memory come first, because a full Redis refuses them, and nothing
has changed by then.
"""

from __future__ import annotations

import hashlib


class Script:
    """A script and the hash by which Redis caches it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


_NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

# KEYS record, kind, due[, group]
# ARGV put|add, value, etag, milliseconds or '', key, entry, :group or ''
WRITE = Script(
    _NOW
    + """
    local old = redis.pcall('HMGET', KEYS[1], 'e', 'g', 'v')
    local there = not old.err and old[1] and old[3]
    if there and ARGV[1] == 'add' then return 0 end
    if there then redis.call('ZADD', KEYS[3], now, ARGV[6] .. (old[2] or '')) end
    if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DEL', KEYS[1]) end
    local ttl = tonumber(ARGV[4])
    if ttl and ttl <= 0 then return 1 end
    redis.call('HSET', KEYS[1], 'v', ARGV[2], 'e', ARGV[3], 'g', ARGV[7])
    redis.call('ZADD', KEYS[2], 0, ARGV[5])
    if KEYS[4] then redis.call('ZADD', KEYS[4], 0, ARGV[5]) end
    if ttl then
        redis.call('PEXPIRE', KEYS[1], ARGV[4])
        redis.call('ZADD', KEYS[3], string.format('%.0f', now + ttl), ARGV[6] .. ARGV[7])
    else
        redis.call('ZREM', KEYS[3], ARGV[6] .. ARGV[7])
    end
    return 1
    """
)
# KEYS record, due  ARGV old etag, new etag, value, milliseconds or '', entry
SWAP = Script(
    _NOW
    + """
    local old = redis.pcall('HMGET', KEYS[1], 'e', 'g', 'v')
    if old.err or old[1] ~= ARGV[1] or not old[3] then return 0 end
    local entry = ARGV[5] .. (old[2] or '')
    local ttl = tonumber(ARGV[4])
    if ttl and ttl <= 0 then
        redis.call('DEL', KEYS[1])
        redis.call('ZADD', KEYS[2], now, entry)
        return 1
    end
    redis.call('HSET', KEYS[1], 'v', ARGV[3], 'e', ARGV[2])
    if ttl then
        redis.call('PEXPIRE', KEYS[1], ARGV[4])
        redis.call('ZADD', KEYS[2], string.format('%.0f', now + ttl), entry)
    else
        redis.call('PERSIST', KEYS[1])
        redis.call('ZREM', KEYS[2], entry)
    end
    return 1
    """
)
# KEYS record, due  ARGV entry
TAKE = Script(
    _NOW
    + """
    local old = redis.pcall('HMGET', KEYS[1], 'e', 'g', 'v')
    redis.call('DEL', KEYS[1])
    if old.err or not old[1] or not old[3] then return false end
    redis.call('ZADD', KEYS[2], now, ARGV[1] .. (old[2] or ''))
    return old[3]
    """
)
# KEYS due  ARGV limit
DUE = Script(_NOW + "return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])")
# KEYS due, then for each entry: record, kind, group (or kind again)
# ARGV for each entry: key, entry, :group or ''
PRUNE = Script(
    _NOW
    + """
    for i = 0, #ARGV / 3 - 1 do
        local record, kind, group = KEYS[2 + 3 * i], KEYS[3 + 3 * i], KEYS[4 + 3 * i]
        local key, entry, name = ARGV[1 + 3 * i], ARGV[2 + 3 * i], ARGV[3 + 3 * i]
        local found = redis.pcall('HMGET', record, 'e', 'g', 'v')
        local there = not found.err and found[1] and found[3]
        local left = there and (found[2] or '') == name and redis.call('PTTL', record) or -1
        if left >= 0 then
            redis.call('ZADD', KEYS[1], string.format('%.0f', now + left + 1), entry)
        else
            redis.call('ZREM', KEYS[1], entry)
        end
        if not there then redis.call('ZREM', kind, key) end
        if not there or (found[2] or '') ~= name then
            if group ~= kind then redis.call('ZREM', group, key) end
        end
    end
    """
)
# Runs each command that the store needs. Leaves nothing behind, wherever it stops: what removes is
# tried before what adds.
# KEYS a hash, a sorted set
CHECK = Script(
    _NOW
    + """
    redis.call('HMGET', KEYS[1], 'v')
    redis.call('EXISTS', KEYS[1])
    redis.call('PEXPIRE', KEYS[1], 1000)
    redis.call('PTTL', KEYS[1])
    redis.call('PERSIST', KEYS[1])
    redis.call('DEL', KEYS[1])
    redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
    redis.call('ZRANGEBYLEX', KEYS[2], '-', '+')
    redis.call('ZREM', KEYS[2], '')
    redis.call('HSET', KEYS[1], 'v', '')
    redis.call('DEL', KEYS[1])
    redis.call('ZADD', KEYS[2], now, '')
    redis.call('ZREM', KEYS[2], '')
    return 1
    """
)
