-- Begins a batch of delivered entries: decides for each whether it is to be run.
-- KEYS: the lane of each entry. ARGV: prefix group ttl_ms results_maxlen owner how ('alone' where
-- nothing else is armed in the worker's process, else 'company'), then for each entry lane id count.
-- Returns for each: verdict, job, attempts, deliveries, crashes, run, enqueued_ms.

local at = settling(ARGV)
local owner, how = ARGV[5], ARGV[6]
must_be_settleable(at.prefix)
local paused = paused_lanes(at.prefix)

local function begin(stream, lane, id, count)
  local fields = payload(stream, id)
  local job = fields and identify(at.prefix, lane, id, fields)
  if not ours(stream, at.group, id, owner, count) then
    -- An earlier begin of ours may have armed it, and its reply been lost.
    if job then withdraw(at.prefix, job, id, owner, count) end
    return { 'FENCED', job or '' }
  end
  if not job then
    redis.call('XACK', stream, at.group, id)
    return { 'GONE', '' }
  end
  local key = result_key(at.prefix, job)
  if paused[lane] then
    hand_back(stream, at.group, lane, id, owner, count, key)
    return { 'PAUSED', job }
  end
  local known = redis.call('HMGET', key, 'status', '_entry', '_lane', '_retries', 'deliveries',
    'run', '_enqueued_ms', '_armed', 'batch')
  local status, entry, where = known[1], known[2], known[3]
  if TERMINAL[status] then
    drop(at, stream, id, fields)
    return { 'ENDED', job }
  end
  if entry and (entry ~= id or where ~= lane) and lives(at.prefix, job, entry, where) then
    drop(at, stream, id, fields)
    return { 'REPEATED', job }
  end
  local joins = not status and named_batch(fields)
  local batch = known[9] or joins or nil
  if batch and batches().is_halted(at.prefix, claim_batch(at.prefix, batch)) then
    settle(at, stream, id, job, HALTED)
    return { 'CANCELLED', job }
  end
  local deadline = deadline_of(fields)
  if deadline and deadline < now_ms() then
    settle(at, stream, id, job, EXPIRED)
    return { 'EXPIRED', job }
  end
  local crashed = crashes(key)
  local delivered = tonumber(count)
  local lapses = delivered >= SUSPECT_DELIVERIES and lapses_of(key, id) or 0
  if how ~= 'alone' and suspicious(crashed, delivered, lapses) then return { 'SUSPECT', job } end
  local attempts, deliveries = whole(known[4]) + 1, whole(known[5])
  -- A begin that is repeated, since its reply was lost, is one delivery.
  local by = holding(owner, count)
  local again = entry == id and where == lane and string.sub(known[8] or '', 1, #by) == by
  if not again then deliveries = deliveries + 1 end
  local run = math.max(1, whole(known[6]))
  local enqueued_ms = milliseconds(known[7]) or string.match(id, '^%d+')
  if joins then batches().join(at, key, joins) end
  redis.call('HSET', key, 'status', 'running', 'worker', owner, 'attempts', attempts,
    'deliveries', deliveries, 'run', run, '_armed', by .. how,
    '_entry', id, '_lane', lane, '_enqueued_ms', enqueued_ms)
  keep_callback(key, fields)
  redis.call('PERSIST', key)
  return { 'RUN', job, attempts, deliveries, crashed, run, enqueued_ms }
end

local verdicts = {}
for i = 1, #KEYS do
  local first = 4 + 3 * i
  verdicts[i] = begin(KEYS[i], ARGV[first], ARGV[first + 1], ARGV[first + 2])
end
return verdicts
