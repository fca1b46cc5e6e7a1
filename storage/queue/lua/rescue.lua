-- Brings entries of a lane back that was put aside, each as a new entry of the same job. KEYS: the
-- lane, where it was put aside. ARGV: prefix group ttl_ms results_maxlen lane rescuers (the group that
-- gave them out), then for each entry its id and state, which is '' for one that was read, or 'oversized' for one that must not be.
-- Returns {how many were looked at, how many were oversized, why the lane takes no more, or ''}.
local at = settling(ARGV)
local stream, aside, lane = KEYS[1], KEYS[2], ARGV[5]
at.group = ARGV[6]
must_be_settleable(at.prefix)
must_be(aside, 'stream')

-- The error where the lane cannot take it now: nothing of it has changed then.
local function bring_back(id, fields)
  local job = identify(at.prefix, lane, id, fields)
  local key = result_key(at.prefix, job)
  local known = redis.call('HMGET', key, 'status', '_entry', '_lane', 'batch')
  if TERMINAL[known[1]] then return drop(at, aside, id, fields) end
  local batch = claim_batch_of(at.prefix, known[1], known[4], fields)
  local sent = { '_job', job }
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 1) ~= '_' then
      sent[#sent + 1] = fields[i]
      sent[#sent + 1] = fields[i + 1]
    end
  end
  local entry = redis.pcall('XADD', stream, '*', unpack(sent))
  if type(entry) == 'table' then return entry.err end
  take_off(aside, at.group, id)
  local its_own = known[2] == id and known[3] == lane
  -- Under the id of its entry it would not be known by the next one.
  if its_own or (not known[2] and is_entry_id(job)) then
    if batch then batches().join(at, key, batch) end
    redis.call('HSETNX', key, 'run', 1)
    redis.call('HSET', key, 'status', 'queued', '_entry', entry, '_lane', lane)
    redis.call('HDEL', key, '_armed')
    keep_callback(key, fields)
  end
end

local looked, refused = 0, 0
for i = 7, #ARGV, 2 do
  local id, state = ARGV[i], ARGV[i + 1]
  if state == 'oversized' then
    refuse(at, aside, lane, id)
    refused = refused + 1
  else
    local fields = payload(aside, id)
    local why = fields and bring_back(id, fields)
    if why then return { looked, refused, why } end
    if not fields then redis.call('XACK', aside, at.group, id) end
  end
  looked = looked + 1
end
return { looked, refused, '' }
