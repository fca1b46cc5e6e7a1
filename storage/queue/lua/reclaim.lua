-- Takes over entries of one lane whose lease ran out, or that were given back, as `abandoned` found
-- them. KEYS: the lane. ARGV: prefix group ttl_ms results_maxlen owner lane lease_ms limit suspects
-- sent_ms max_deliveries max_crashes given_back_only, then for each entry id owner count state, which
-- is '' for one that was read, 'gone', or 'oversized' for one that must not be. `suspects` is how many
-- of the limit may be suspects; `sent_ms` is when this call was sent, by the server's clock.
-- Returns {entries, gone, dead, refused, looked, suspects, given_back_only, now_ms}: entries as {id,
-- count}, dead as job ids, how many were looked at, and how many more of the suspects may be taken.
local at = settling(ARGV)
local stream, owner, lane, lease_ms = KEYS[1], ARGV[5], ARGV[6], tonumber(ARGV[7])
local limit, suspects, sent_ms = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local max_deliveries, max_crashes = tonumber(ARGV[11]), tonumber(ARGV[12])
local given_back_only = ARGV[13] == '1' or held_up(sent_ms, lease_ms)
must_be_settleable(at.prefix)

local entries, gone, dead, refused = {}, 0, {}, 0

local function forget(id)
  -- Its hash can be found where the job had no id of its own.
  local job = entry_job(lane, id)
  local key = result_key(at.prefix, job)
  local known = redis.call('HMGET', key, 'status', '_entry', '_lane', 'batch', '_callback')
  claim_batch(at.prefix, known[4])
  claim_webhooks(at.prefix, known[5])
  redis.call('XACK', stream, at.group, id)
  gone = gone + 1
  if known[2] == id and known[3] == lane and not TERMINAL[known[1]] then
    conclude(at, key, job, LOST)
  end
end

local function give_up(id, job, before, why)
  dead[#dead + 1] = job
  settle(at, stream, id, job, {
    status = 'dead', reason = 'crash_loop', owner = before, lane = lane,
    fields = { 'error_code', 'crash_loop', 'error',
      why .. ': look at its object and at the logs of the workers, then replay it' },
  })
end

-- What would make a dead letter now, does so one lease later, if the evidence still stands then.
local function accuse(key, id, before, count)
  redis.call('XCLAIM', stream, at.group, ACCUSED, 0, id, 'JUSTID', 'RETRYCOUNT', count)
  redis.call('HDEL', key, '_armed')
  redis.call('HSET', key, crash_field(id, before, count), 'alone')
end

local function take(id, before, count, fields)
  local job = identify(at.prefix, lane, id, fields)
  local key = result_key(at.prefix, job)
  local known = redis.call('HMGET', key, 'status', 'worker')
  if TERMINAL[known[1]] then return drop(at, stream, id, fields) end
  local how = armed_how(key, lane, id, before, count)
  local died = how and before ~= owner
  local lapsed = how and before == owner -- we live, whatever became of our lease
  local crashed, crashed_alone = crashes(key)
  local last = before == ACCUSED and known[2] or before
  if crashed_alone >= max_crashes then
    return give_up(id, job, last, crashed_alone .. ' workers died of it, alone with it')
  end
  if count >= max_deliveries then
    return give_up(id, job, last, 'delivered ' .. count .. ' times without an end')
  end
  if died and how == 'alone' and crashed_alone + 1 >= max_crashes then
    return accuse(key, id, before, count)
  end
  if died then crashed = crashed + 1 end
  -- Who held it without running it did not deliver it. The new owner alone renews the fence then.
  local next_count = (how or before == GIVEN_BACK or before == ACCUSED) and count + 1 or count
  if suspicious(crashed, next_count, lapses_of(key, id) + (lapsed and 1 or 0)) then
    if suspects == 0 then return end
    suspects = suspects - 1
  end

  redis.call('XCLAIM', stream, at.group, owner, 0, id, 'JUSTID', 'RETRYCOUNT', next_count)
  if how then redis.call('HDEL', key, '_armed') end
  -- A worker that lives may withdraw this.
  if died then redis.call('HSET', key, crash_field(id, before, count), how) end
  if lapsed then note_lapse(key, id) end
  entries[#entries + 1] = { id, next_count }
end

-- Whether it is abandoned still, and by the same holding.
local function abandoned(id, before, count)
  local reply = redis.pcall('XPENDING', stream, at.group, id, id, 1)
  local found = not reply.err and reply[1]
  if not found or found[2] ~= before or found[4] ~= count then return false end
  return before == GIVEN_BACK or (not given_back_only and found[3] >= lease_ms)
end

local looked = 0
for i = 14, #ARGV, 4 do
  if #entries == limit then break end
  local id, before, count, state = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  looked = looked + 1
  if abandoned(id, before, count) then
    if state == 'oversized' then
      refuse(at, stream, lane, id)
      refused = refused + 1
    else
      local fields = payload(stream, id)
      if fields then take(id, before, count, fields) else forget(id) end
    end
  end
end
return { entries, gone, dead, refused, looked, suspects, given_back_only and 1 or 0, now_ms() }
