-- Puts a job aside until its next attempt is due. KEYS: its lane. ARGV: prefix group ttl_ms
-- results_maxlen owner id count job lane delay_ms error_code error.
-- Returns RETRYING, EXPIRED (it would be due past its deadline), ALREADY, FENCED or GONE.
local at = settling(ARGV)
local stream, owner, id, count, job = KEYS[1], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local lane, delay_ms, error_code, message = ARGV[9], tonumber(ARGV[10]), ARGV[11], ARGV[12]
must_be_settleable(at.prefix)
must_be(at.prefix .. ':delayed', 'zset')
if not ours(stream, at.group, id, owner, count) then
  withdraw(at.prefix, job, id, owner, count)
  return 'FENCED'
end
local key = result_key(at.prefix, job)
if moved_on(key, lane, id) then
  take_off(stream, at.group, id)
  return 'FENCED'
end
local known = redis.call('HMGET', key, 'status', '_retries', 'batch', '_callback')
claim_batch(at.prefix, known[3])
claim_webhooks(at.prefix, known[4])
local fields = payload(stream, id)
if not fields then
  redis.call('XACK', stream, at.group, id)
  if not TERMINAL[known[1]] then conclude(at, key, job, LOST) end
  return 'GONE'
end
local due, deadline = now_ms() + delay_ms, deadline_of(fields)
if deadline and deadline < due then
  local ended = settle(at, stream, id, job, EXPIRED)
  return ended == 'SETTLED' and 'EXPIRED' or ended
end
local waiting = claim_hash(at.prefix .. ':delayed:' .. job)

take_off(stream, at.group, id)
if TERMINAL[known[1]] then return 'ALREADY' end
redis.call('HSET', key, 'status', 'retrying', '_retries', whole(known[2]) + 1,
  'error_code', error_code, 'error', message)
redis.call('HDEL', key, '_armed')
redis.call('DEL', waiting)
-- Names like ours would make it larger than any entry may be, together with ours.
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 1) ~= '_' then
    redis.call('HSET', waiting, fields[i], fields[i + 1])
  end
end
redis.call('HSET', waiting, '_job', job, '_lane', lane)
redis.call('ZADD', at.prefix .. ':delayed', due, job)
return 'RETRYING'
