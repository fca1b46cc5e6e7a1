-- Joined in front of every script, behind `prelude`: what batches count. See docs/batches.md.
--
-- `emo:batch:<id>` is a hash; a script names the batch's keys by `claim_batch` before its first write.
-- A job counts in the batch that its own hash names, and in no other.

-- The batch that a job's fields name; nil where they name none, or what cannot be one.
-- `first` is where they begin.
local function named_batch(fields, first)
  local batch = field(fields, 'batch', first)
  if valid_id(batch) and not is_entry_id(batch) then return batch end
end

local made

-- What is done to batches. Made when it is first asked for: most jobs are in none, and each call of a
-- script makes all of its functions anew.
local function batches()
  if made then return made end
  local BATCH_KEPT_MS = 604800000 -- after its last change, unless all of it has ended
  local MAX_FAILURES = 1000
  local ENDS = { 'done', 'failed', 'dead', 'expired', 'cancelled' }
  local FAILURES = { failed = true, dead = true, expired = true }


  local function batch_key(prefix, batch)
    return prefix .. ':batch:' .. batch
  end

  local function failures_key(prefix, batch)
    return prefix .. ':batch-failures:' .. batch
  end

  local function repeats_key(prefix, batch)
    return prefix .. ':batch-repeats:' .. batch
  end

  -- Those that are not complete, by when they expire.
  local function index_key(prefix)
    return prefix .. ':batches:open'
  end

  -- Not HINCRBY, which would stop the script where anyone has written something else.
  local function add(key, name, number)
    redis.call('HSET', key, name, math.max(0, whole(redis.call('HGET', key, name)) + number))
  end

  -- Nothing of a batch may stop a script after its first write.
  local function claim_all(prefix, batch)
    must_be(prefix .. ':batches', 'stream')
    claim(index_key(prefix), 'zset')
    claim_hash(batch_key(prefix, batch))
    claim(failures_key(prefix, batch), 'list')
    claim(repeats_key(prefix, batch), 'set')
  end

  -- Its counts; `status` is nil where there is no such batch, or it has expired.
  local function tally(prefix, batch)
    local known = redis.call('HMGET', batch_key(prefix, batch), 'status', 'run', 'total', 'jobs',
      'repeated', unpack(ENDS))
    local found = { status = known[1], run = whole(known[2]), total = known[3] and whole(known[3]),
      jobs = whole(known[4]), repeated = whole(known[5]), ended = 0 }
    for i, name in ipairs(ENDS) do
      found[name] = whole(known[5 + i])
      found.ended = found.ended + found[name]
    end
    found.open = found.jobs - found.ended
    return found
  end

  -- After a change: how long it is kept. What is sealed and waits for jobs that have not ended, for as
  -- long as they take. Until it is complete it is in the index, which forgets those that have expired.
  local function keep(at, batch, now)
    local keys = { batch_key(at.prefix, batch), failures_key(at.prefix, batch),
      repeats_key(at.prefix, batch) }
    local left_ms = BATCH_KEPT_MS
    if now.status == 'complete' then left_ms = at.ttl_ms end
    if now.status == 'sealed' and now.open > 0 then left_ms = nil end
    for _, key in ipairs(keys) do
      if left_ms then redis.call('PEXPIRE', key, left_ms) else redis.call('PERSIST', key) end
    end
    local index, at_ms = index_key(at.prefix), now_ms()
    redis.call('ZREMRANGEBYSCORE', index, '-inf', at_ms)
    if now.status == 'complete' then
      redis.call('ZREM', index, batch)
    else
      redis.call('ZADD', index, left_ms and at_ms + left_ms or '+inf', batch)
    end
  end

  -- After a change that may have been the last: tells it, once.
  local function batch_changed(at, batch)
    local now = tally(at.prefix, batch)
    if now.status == 'sealed' and now.open <= 0 and now.ended + now.repeated >= now.total then
      now.status = 'complete'
      local told, at_ms = {}, now_ms()
      for _, name in ipairs({ 'run', 'total', 'jobs', 'repeated', unpack(ENDS) }) do
        told[#told + 1] = name
        told[#told + 1] = now[name]
      end
      append(at.prefix, at.prefix .. ':batches', 'MAXLEN', '~', at.results_maxlen, '*',
        'batch', batch, 'event', 'complete', 'completed_at_ms', at_ms, unpack(told))
      redis.call('HSET', batch_key(at.prefix, batch), 'status', 'complete', 'completed_at_ms', at_ms)
    end
    keep(at, batch, now)
    return now
  end

  -- Begins it where there is none; one that is complete is begun anew, as its next run.
  local function open_batch(prefix, batch)
    local key = batch_key(prefix, batch)
    if redis.call('HSETNX', key, 'status', 'open') == 1 then
      redis.call('HSET', key, 'run', 1, 'created_at_ms', now_ms())
    elseif redis.call('HGET', key, 'status') == 'complete' then
      redis.call('HSET', key, 'status', 'sealed')
      add(key, 'run', 1)
      -- A cancellation was of the run before.
      redis.call('HDEL', key, 'completed_at_ms', 'cancel_at_ms')
    end
    return key
  end

  -- A job that nobody knew, or that counted nowhere, counts here from now on.
  local function join_batch(at, key, batch)
    add(open_batch(at.prefix, batch), 'jobs', 1)
    redis.call('HSET', key, 'batch', batch)
    return batch_changed(at, batch)
  end

  -- A repeat that named this batch was dropped.
  local function count_repeat(at, batch)
    local key = batch_key(at.prefix, batch)
    if redis.call('HSETNX', key, 'status', 'open') == 1 then
      redis.call('HSET', key, 'run', 1, 'created_at_ms', now_ms())
    end
    add(key, 'repeated', 1)
    batch_changed(at, batch)
  end

  -- The same of one that was submitted, and may be so again after a lost reply: once for each job.
  local function count_submitted_repeat(at, batch, job)
    if redis.call('SADD', repeats_key(at.prefix, batch), job) == 1 then count_repeat(at, batch) end
  end

  local function failure(job, status, code)
    return job .. ' ' .. status .. ' ' .. (code or '')
  end

  -- A job of it has ended. Not counted where the batch has expired meanwhile.
  local function end_in_batch(at, batch, job, status, code)
    if tally(at.prefix, batch).open <= 0 then return end
    add(batch_key(at.prefix, batch), status, 1)
    if FAILURES[status] then
      local failures = failures_key(at.prefix, batch)
      redis.call('LPUSH', failures, failure(job, status, code))
      redis.call('LTRIM', failures, 0, MAX_FAILURES - 1)
    end
    batch_changed(at, batch)
  end

  -- A job of it that had ended so is to run again. false where the batch has expired meanwhile.
  local function again_in_batch(at, batch, job, status, code)
    if tally(at.prefix, batch)[status] == 0 then return false end
    add(open_batch(at.prefix, batch), status, -1)
    redis.call('LREM', failures_key(at.prefix, batch), 1, failure(job, status, code))
    keep(at, batch, tally(at.prefix, batch))
    return true
  end

  -- Whether somebody has cancelled the batch.
  local function is_halted(prefix, batch)
    return redis.call('HEXISTS', batch_key(prefix, batch), 'cancel_at_ms') == 1
  end

  made = {
    claim = claim_all, tally = tally, keep = keep, changed = batch_changed, open = open_batch,
    join = join_batch, count_repeat = count_repeat, count_submitted_repeat = count_submitted_repeat,
    ended = end_in_batch, again = again_in_batch, is_halted = is_halted,
  }
  return made
end

-- Names a batch before a script's first write; nil for none.
local function claim_batch(prefix, batch)
  if not batch then return end
  batches().claim(prefix, batch)
  return batch
end
