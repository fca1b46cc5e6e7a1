-- Begins a batch of delivered entries: decides for each whether it is to be run.
-- KEYS: the lane of each entry. ARGV: prefix group ttl_ms results_maxlen owner, then for each entry
-- lane id count. Returns for each: verdict, job, attempts, deliveries, crashes, run, enqueued_ms.

local at = settling(ARGV)
local owner = ARGV[5]
must_be(at.prefix .. ':results', 'stream')

-- Whether the job's entry, as its hash names it, still is in its lane or waits for its retry.
local function lives_elsewhere(job, entry, lane)
  if redis.call('EXISTS', at.prefix .. ':delayed:' .. job) == 1 then return true end
  local stream = at.prefix .. (lane == 'normal' and ':jobs' or ':jobs:' .. lane)
  return payload(stream, entry) ~= nil
end

local function begin(stream, lane, id, count)
  if not ours(stream, at.group, id, owner, count) then return { 'FENCED', '' } end
  local fields = payload(stream, id)
  if not fields then
    redis.call('XACK', stream, at.group, id)
    return { 'GONE', '' }
  end
  local job = identify(at.prefix, lane, id, fields)
  local key = result_key(at.prefix, job)
  local known = redis.call('HMGET', key, 'status', '_entry', '_lane', '_retries')
  local status, entry = known[1], known[2]
  if TERMINAL[status] then
    take_off(stream, at.group, id)
    return { 'ENDED', job }
  end
  if entry and (entry ~= id or known[3] ~= lane) and lives_elsewhere(job, entry, known[3]) then
    take_off(stream, at.group, id)
    return { 'REPEATED', job }
  end
  local deadline = tonumber(field(fields, 'deadline_ms') or '')
  if deadline and deadline < now_ms() then
    settle(at, stream, id, job, EXPIRED)
    return { 'EXPIRED', job }
  end
  local attempts = tonumber(known[4] or 0) + 1
  redis.call('HSET', key, 'status', 'running', 'worker', owner, 'attempts', attempts,
    '_armed', owner .. ':' .. count, '_entry', id, '_lane', lane)
  redis.call('HSETNX', key, 'run', 1)
  redis.call('HSETNX', key, '_enqueued_ms', string.match(id, '^%d+'))
  redis.call('PERSIST', key)
  local deliveries = redis.call('HINCRBY', key, 'deliveries', 1)
  local rest = redis.call('HMGET', key, 'run', '_enqueued_ms')
  return { 'RUN', job, attempts, deliveries, #crashes(key), tonumber(rest[1]), rest[2] }
end

local verdicts = {}
for i = 1, #KEYS do
  local first = 3 + 3 * i
  verdicts[i] = begin(KEYS[i], ARGV[first], ARGV[first + 1], ARGV[first + 2])
end
return verdicts
