-- Takes over entries of one lane whose lease ran out, or that were given back. KEYS: the lane. ARGV:
-- prefix group ttl_ms results_maxlen owner lane lease_ms limit suspects from sent_ms max_deliveries
-- max_crashes given_back_only. `suspects` is how many of the limit may be suspects; `from` is where
-- to look on, as an earlier call said; `sent_ms` is when this call was sent, by the server's clock.
-- Returns {entries, gone, dead, from, suspects, given_back_only, now_ms}: entries as {id, count,
-- fields}, dead as job ids, and of the suspects how many more may be taken.
local at = settling(ARGV)
local stream, owner, lane, lease_ms = KEYS[1], ARGV[5], ARGV[6], tonumber(ARGV[7])
local limit, suspects, from, sent_ms = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10], ARGV[11]
local max_deliveries, max_crashes = tonumber(ARGV[12]), tonumber(ARGV[13])
-- A call that was long on its way comes out of an outage. All leases look run out then.
local given_back_only = ARGV[14] == '1' or now_ms() - sent_ms > math.max(100, lease_ms / 4)
-- What is looked at in one call: suspects that must wait do not hide what is behind them.
local PAGE = 500
must_be_settleable(at.prefix)

local reply
if given_back_only then
  reply = redis.pcall('XPENDING', stream, at.group, from, '+', PAGE, GIVEN_BACK)
else
  reply = redis.pcall('XPENDING', stream, at.group, 'IDLE', lease_ms, from, '+', PAGE)
end
if reply.err then
  if string.find(reply.err, 'NOGROUP', 1, true) then
    return { {}, 0, {}, '-', suspects, 0, now_ms() }
  end
  error(reply.err)
end

local entries, gone, dead = {}, 0, {}

local function forget(id)
  redis.call('XACK', stream, at.group, id)
  gone = gone + 1
  -- Its hash can be found where the job had no id of its own.
  local job = lane == 'normal' and id or lane .. '-' .. id
  local key = result_key(at.prefix, job)
  local known = redis.call('HMGET', key, 'status', '_entry', '_lane')
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
  if TERMINAL[known[1]] then return take_off(stream, at.group, id) end
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
  entries[#entries + 1] = { id, next_count, fields }
end

from = '-'
for i, pending in ipairs(reply) do
  local id, before, count = pending[1], pending[2], pending[4]
  if #entries == limit then break end
  local fields = payload(stream, id)
  if fields then take(id, before, count, fields) else forget(id) end
  if i == PAGE or #entries == limit then from = '(' .. id end
end
return { entries, gone, dead, from, suspects, given_back_only and 1 or 0, now_ms() }
