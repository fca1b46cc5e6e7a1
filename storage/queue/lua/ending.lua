-- Joined in front of every script, behind `batch`: how jobs end.

local MOST_OF_A_URL = 2048

-- Every script that can end a job checks this first, before any write of its own.
local function must_be_settleable(prefix)
  must_be(prefix .. ':results', 'stream')
  must_be(prefix .. ':dead', 'stream')
end

-- Where the end of a job is to be told; nil where its fields name nothing that can be called: see
-- storage/wire/callback.py. `first` is where they begin.
local function callback_of(fields, first)
  local url = field(fields, 'callback', first)
  local called = url and #url <= MOST_OF_A_URL and string.match(url, '^https?://([!-~]+)$')
  if called and string.find(string.match(called, '^[^/?#]*'), '^[%w._:%[%]-]+$') then return url end
end

-- Keeps it in the job's hash. Whoever first writes the hash does.
local function keep_callback(key, fields, first)
  local url = callback_of(fields, first)
  if url then redis.call('HSET', key, '_callback', url) end
end

-- Before the first write of whoever may end a job: looks at the stream that its end goes to, if its
-- hash has a callback (`kept`), or will have that of its `fields`.
local function claim_webhooks(prefix, kept, fields)
  if kept or (fields and callback_of(fields)) then claim_stream(prefix, prefix .. ':webhooks') end
end

-- Makes the hash of a job terminal and tells it in one event, and in one more to be sent where the hash
-- has a callback. `at` holds prefix, group, ttl_ms,
-- results_maxlen; `ending` holds status, the result's `fields`, and for a dead letter its `reason`,
-- `owner` and `lane`; `letter` is then the job's payload. The caller has claimed the job's batch, and the
-- webhooks.
local function conclude(at, key, job, ending, letter)
  local finished = now_ms()
  redis.call('HSETNX', key, 'run', 1)
  redis.call('HSET', key, 'status', ending.status, 'finished_at_ms', finished,
    unpack(ending.fields))
  -- Of a job that is done, or not wanted, the error of an earlier attempt is history.
  local internal = (ending.status == 'done' or ending.status == 'cancelled') and { 'error_code', 'error' } or {}
  local callback
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if string.sub(name, 1, 1) == '_' then internal[#internal + 1] = name end
    if name == '_callback' then callback = redis.call('HGET', key, name) end
  end
  for first = 1, #internal, MOST_AT_ONCE do
    local last = math.min(#internal, first + MOST_AT_ONCE - 1)
    redis.call('HDEL', key, unpack(internal, first, last))
  end
  redis.call('PEXPIRE', key, at.ttl_ms)
  local known = redis.call('HMGET', key, 'run', 'label', 'score', 'error_code', 'batch', 'attempts')
  local batch = known[5]
  if letter then
    local kept = {}
    for i = 1, math.min(#letter, MAX_LETTER), 2 do
      if string.sub(letter[i], 1, 1) ~= '_' then
        kept[#kept + 1] = letter[i]
        kept[#kept + 1] = letter[i + 1]
      end
    end
    if batch then
      kept[#kept + 1] = '_batch'
      kept[#kept + 1] = batch
    end
    append(at.prefix, at.prefix .. ':dead', '*', '_job', job, '_reason', ending.reason,
      '_lane', ending.lane, '_owner', ending.owner, '_attempts', known[6] or '0',
      '_run', known[1] or '1', unpack(kept))
  end
  local event = { 'job', job, 'status', ending.status }
  for i, name in ipairs({ 'run', 'label', 'score', 'error_code', 'batch' }) do
    if known[i] then
      event[#event + 1] = name
      event[#event + 1] = known[i]
    end
  end
  append(at.prefix, at.prefix .. ':results', 'MAXLEN', '~', at.results_maxlen, '*',
    'finished_at_ms', finished, unpack(event))
  -- Never trimmed: each waits until it is delivered.
  if callback then
    append(at.prefix, at.prefix .. ':webhooks', '*', 'callback', callback,
      'finished_at_ms', finished, unpack(event))
  end
  if batch then batches().ended(at, batch, job, ending.status, known[4]) end
end

-- Claims the batch that a job counts in, or will: of one that nobody knows, so that it has no status,
-- that which its `fields` name. Returns the batch to be joined, if any.
local function claim_batch_of(prefix, status, batch, fields)
  claim_batch(prefix, batch)
  return not status and fields and claim_batch(prefix, named_batch(fields)) or nil
end

-- Drops the entry of a repeat: its job is known by another one, or has ended.
local function drop(at, stream, id, fields)
  local batch = claim_batch(at.prefix, named_batch(fields))
  take_off(stream, at.group, id)
  if batch then batches().count_repeat(at, batch) end
end

-- Ends a job and takes its entry off the lane. The caller has checked the fence and the types.
local function settle(at, stream, id, job, ending)
  local key = result_key(at.prefix, job)
  local known = redis.call('HMGET', key, 'status', 'batch', '_callback')
  local status = known[1]
  local fields = (ending.reason or not status) and payload(stream, id) or nil
  local batch = claim_batch_of(at.prefix, status, known[2], fields)
  claim_webhooks(at.prefix, known[3], fields)

  take_off(stream, at.group, id)
  if TERMINAL[status] then return 'ALREADY' end
  if batch then batches().join(at, key, batch) end
  if fields then keep_callback(key, fields) end
  conclude(at, key, job, ending, ending.reason and fields)
  return 'SETTLED'
end

local EXPIRED = {
  status = 'expired',
  fields = { 'error_code', 'deadline_exceeded', 'error', 'the deadline passed before it was done' },
}

local HALTED = { status = 'cancelled', fields = {} }

local LOST = {
  status = 'failed',
  fields = { 'error_code', 'internal', 'error', 'its payload was lost; submit it again' },
}

local OVERSIZED = {
  status = 'failed',
  fields = { 'error_code', 'invalid_job', 'error',
    'the entry holds more than 1 MiB, or more than 2000 fields: nothing of it was read' },
}

-- Ends an entry that is too large to be read, under the id that it has of itself: whatever id it gave
-- is not known. The caller has checked the fence and the types.
local function refuse(at, stream, lane, id)
  local job = entry_job(lane, id)
  local key = result_key(at.prefix, job)
  local known = redis.call('HMGET', key, 'status', '_entry', '_lane', 'batch', '_callback')
  claim_batch(at.prefix, known[4])
  claim_webhooks(at.prefix, known[5])
  take_off(stream, at.group, id)
  local foreign = known[2] and (known[2] ~= id or known[3] ~= lane)
  if TERMINAL[known[1]] or foreign then return end
  conclude(at, key, job, OVERSIZED)
end

-- The first arguments of every script that can end a job, as `at`.
local function settling(argv)
  return { prefix = argv[1], group = argv[2], ttl_ms = argv[3], results_maxlen = argv[4] }
end
