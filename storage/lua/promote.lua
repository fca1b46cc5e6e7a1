-- Moves retries that are due back to their lanes. KEYS: the delayed set. ARGV: prefix group ttl_ms
-- results_maxlen limit. Returns how many were moved.
local at = settling(ARGV)
must_be(at.prefix .. ':results', 'stream')
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'LIMIT', 0, ARGV[5])
local moved = 0
for _, job in ipairs(due) do
  local waiting, key = at.prefix .. ':delayed:' .. job, result_key(at.prefix, job)
  local fields = redis.call('HGETALL', waiting)
  local lane, status = field(fields, '_lane'), redis.call('HGET', key, 'status')
  redis.call('ZREM', KEYS[1], job)
  redis.call('DEL', waiting)
  if lane and not TERMINAL[status] then
    local stream = at.prefix .. (lane == 'normal' and ':jobs' or ':jobs:' .. lane)
    local id = redis.call('XADD', stream, '*', unpack(fields))
    redis.call('HSET', key, '_entry', id, '_lane', lane)
    moved = moved + 1
  elseif status == 'retrying' then
    conclude(at, key, job, { status = 'failed',
      fields = { 'error_code', 'internal', 'error', 'its payload was lost; submit it again' } })
  end
end
return moved
