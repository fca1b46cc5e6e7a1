-- Puts a job aside until its next attempt is due. KEYS: its lane. ARGV: prefix group ttl_ms
-- results_maxlen owner id count job lane delay_ms error_code error.
-- Returns RETRYING, EXPIRED (it would be due past its deadline), ALREADY, FENCED or GONE.
local at = settling(ARGV)
local stream, owner, id, job, lane = KEYS[1], ARGV[5], ARGV[6], ARGV[8], ARGV[9]
if not ours(stream, at.group, id, owner, ARGV[7]) then return 'FENCED' end
local fields = payload(stream, id)
if not fields then
  redis.call('XACK', stream, at.group, id)
  return 'GONE'
end
local due = now_ms() + tonumber(ARGV[10])
local deadline = tonumber(field(fields, 'deadline_ms') or '')
if deadline and deadline < due then
  local ended = settle(at, stream, id, job, EXPIRED)
  return ended == 'SETTLED' and 'EXPIRED' or ended
end
local key, waiting = result_key(at.prefix, job), at.prefix .. ':delayed:' .. job
must_be(at.prefix .. ':delayed', 'zset')
must_be(waiting, 'hash')
local status = redis.call('HGET', key, 'status')

take_off(stream, at.group, id)
if TERMINAL[status] then return 'ALREADY' end
local retries = redis.call('HINCRBY', key, '_retries', 1)
redis.call('HSET', key, 'status', 'retrying', 'error_code', ARGV[11], 'error', ARGV[12])
redis.call('HDEL', key, '_armed')
redis.call('DEL', waiting)
redis.call('HSET', waiting, unpack(fields))
redis.call('HSET', waiting, '_job', job, '_lane', lane, '_attempt', retries + 1,
  '_enqueued_ms', redis.call('HGET', key, '_enqueued_ms') or '')
redis.call('ZADD', at.prefix .. ':delayed', due, job)
return 'RETRYING'
