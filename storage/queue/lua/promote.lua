-- Moves retries that are due back to their lanes. KEYS: the delayed set. ARGV: prefix group ttl_ms
-- results_maxlen limit postpone_ms (for those whose lane cannot take them). Returns {how many were due,
-- how many of them were postponed since their lane takes nothing, why}. Those of a paused lane wait on.
local at = settling(ARGV)
must_be_settleable(at.prefix)
must_be(KEYS[1], 'zset')
local paused = paused_lanes(at.prefix)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'WITHSCORES', 'LIMIT', 0, ARGV[5])
local postponed, why = 0, ''
for i = 1, #due, 2 do
  local job = due[i]
  local waiting, key = claim_hash(at.prefix .. ':delayed:' .. job), result_key(at.prefix, job)
  local fields = redis.call('HGETALL', waiting)
  local known = redis.call('HMGET', key, 'status', 'batch', '_callback')
  local lane, status, batch = field(fields, '_lane'), known[1], claim_batch(at.prefix, known[2])
  claim_webhooks(at.prefix, known[3])
  local halted = batch and batches().is_halted(at.prefix, batch) and not TERMINAL[status]
  redis.call('ZREM', KEYS[1], job)
  if halted then
    redis.call('DEL', waiting)
    conclude(at, key, job, HALTED)
  elseif paused[lane] and not TERMINAL[status] then
    redis.call('ZADD', KEYS[1], now_ms() + ARGV[6], job)
  -- More than that no worker wrote, and none could put it back.
  elseif lane and #fields <= MAX_LETTER + 4 and not TERMINAL[status] then
    local id = redis.pcall('XADD', lane_key(at.prefix, lane), '*', unpack(fields))
    if type(id) == 'table' then
      -- The lane cannot take it now. Nothing of it is lost, and those behind it need not wait.
      postponed, why = postponed + 1, id.err
      redis.call('ZADD', KEYS[1], now_ms() + ARGV[6], job)
    else
      redis.call('HSET', key, '_entry', id, '_lane', lane)
      redis.call('DEL', waiting)
    end
  else
    if status == 'retrying' then conclude(at, key, job, LOST) end
    redis.call('DEL', waiting)
  end
end
return { #due / 2, postponed, why }
