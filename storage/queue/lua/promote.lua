-- Moves retries that are due back to their lanes. KEYS: the delayed set. ARGV: prefix group ttl_ms
-- results_maxlen limit. Returns how many were due.
local at = settling(ARGV)
must_be_settleable(at.prefix)
must_be(KEYS[1], 'zset')
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'WITHSCORES', 'LIMIT', 0, ARGV[5])
for i = 1, #due, 2 do
  local job, score = due[i], due[i + 1]
  local waiting, key = claim_hash(at.prefix .. ':delayed:' .. job), result_key(at.prefix, job)
  local fields = redis.call('HGETALL', waiting)
  local lane, status = field(fields, '_lane'), redis.call('HGET', key, 'status')
  redis.call('ZREM', KEYS[1], job)
  if lane and not TERMINAL[status] then
    local id = redis.pcall('XADD', lane_key(at.prefix, lane), '*', unpack(fields))
    if id.err then
      -- The lane cannot take it now, and nothing of it is lost.
      redis.call('ZADD', KEYS[1], score, job)
      return id
    end
    redis.call('HSET', key, '_entry', id, '_lane', lane)
  elseif status == 'retrying' then
    conclude(at, key, job, LOST)
  end
  redis.call('DEL', waiting)
end
return #due / 2
