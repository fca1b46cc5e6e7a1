-- Says how a worker is, until keep_ms have passed. KEYS: its hash, the index of all workers: a sorted
-- set of names, each with the time at which its hash is gone. ARGV: name keep_ms, then the fields,
-- name and value in turn. Freed first, so that it is told at maxmemory too.
local DAY_MS = 86400000
local hash, index = claim(KEYS[1], 'hash'), claim(KEYS[2], 'zset')
local now, keep_ms = now_ms(), tonumber(ARGV[2])
redis.call('DEL', hash)
redis.call('ZREMRANGEBYSCORE', index, '-inf', now)
redis.call('HSET', hash, 'told_at_ms', now, unpack(ARGV, 3))
redis.call('PEXPIRE', hash, keep_ms)
redis.call('ZADD', index, now + keep_ms, ARGV[1])
redis.call('PEXPIRE', index, math.max(DAY_MS, keep_ms))
