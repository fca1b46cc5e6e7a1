-- Joined in front of every script, before `batch` and `ending`.
--
-- Lua in Redis does not roll back. So in each script everything that can fail or forbid (type,
-- fence, status) is read before the first write, and XACK + XDEL, which free memory, come first
-- among the writes: after a write, Redis lets the rest of a script go on even at maxmemory.
-- While a slot moves to another node of a cluster, a key that is not there cannot be touched either:
-- so each key that a script may write is looked at before its first write.

-- Fields and values kept of a dead letter: what Lua's stack can hand to XADD.
local MAX_LETTER = 4000

-- Fields that are deleted at once, for the same reason.
local MOST_AT_ONCE = 1000

local MAX_COUNT = 2 ^ 50

-- Owns what was given back, until somebody takes it. No worker has this name, so nothing that a
-- worker still has on its way, from this holding or an earlier one, passes the fence.
local GIVEN_BACK = 'given-back'

-- Owns, for one lease, what a dead letter is to be made of: its worker may live after all, and
-- withdraw the evidence.
local ACCUSED = 'accused'

-- The group that entries of a lane that was put aside are brought back by.
local RESCUERS = 'rescuers'

-- Lapses of one entry that are excused. A job that freezes its worker each time looks the same as a
-- worker that could not reach Redis; so it is not excused for ever.
local MAX_LAPSES = 3
local SUSPECT_CRASHES = 2
local SUSPECT_DELIVERIES = 4

local TERMINAL = { done = true, failed = true, dead = true, expired = true, cancelled = true }

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Whether a call was long on its way: it comes out of an outage then, and all leases look run out.
local function held_up(sent_ms, lease_ms)
  return now_ms() - sent_ms > math.max(100, lease_ms / 4)
end

-- Stops the script, before it has written anything, where a key of ours holds another type.
local function must_be(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    error('WRONGTYPE ' .. key .. ' must be a ' .. kind .. ' but is a ' .. found)
  end
end

local function lane_key(prefix, lane)
  return prefix .. (lane == 'normal' and ':jobs' or ':jobs:' .. lane)
end

-- Names a key of ours. Something else under its name was put there against the contract, and would
-- stop every job that one call is about: it is deleted.
local function claim(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
  return key
end

local function claim_hash(key)
  return claim(key, 'hash')
end

local function result_key(prefix, job)
  return claim_hash(prefix .. ':result:' .. job)
end

-- A count that a hash should hold; 0 where anything else stands there, as anyone may have written it.
local function whole(value)
  local number = math.floor(tonumber(value or 0) or 0)
  return number >= 0 and number < MAX_COUNT and number or 0
end

-- A unix time in milliseconds, as digits; nil where it is none.
local function milliseconds(value)
  return value and #value <= 15 and string.match(value, '^%d+$') or nil
end

-- Whether a pending entry is still with `owner`, delivered `count` times: the fence.
local function ours(stream, group, id, owner, count)
  local reply = redis.pcall('XPENDING', stream, group, id, id, 1)
  if reply.err then
    if string.find(reply.err, 'NOGROUP', 1, true) then return false end
    error(reply.err)
  end
  return #reply == 1 and reply[1][2] == owner and reply[1][4] == tonumber(count)
end

-- The fields of an entry, name and value in turn; nil where it is gone.
local function payload(stream, id)
  local reply = redis.call('XRANGE', stream, id, id)
  return reply[1] and reply[1][2]
end

-- Of fields that are repeated the last one counts, as in a mapping. `first` is where they begin.
local function field(fields, name, first)
  for i = #fields - 1, first or 1, -2 do
    if fields[i] == name then return fields[i + 1] end
  end
end

-- The job's deadline; nil where there is none, or none that can be understood.
local function deadline_of(fields)
  return tonumber(milliseconds(field(fields, 'deadline_ms')))
end

local function valid_id(job)
  return job and #job <= 128 and string.find(job, '^[%w._:-]+$') ~= nil
end

-- Whether it is what a job is called that was given no id: nobody may give it to another.
local function is_entry_id(job)
  local lane, ms, sequence = string.match(job, '^(%a*%-?)(%d+)%-(%d+)$')
  return ms ~= nil and (lane == '' or lane == 'high-' or lane == 'bulk-')
    and #ms >= 12 and #ms <= 20 and #sequence <= 20
end

-- The id of a job that was given none.
local function entry_job(lane, id)
  return lane == 'normal' and id or lane .. '-' .. id
end

-- The id of the job in an entry: its own from an earlier attempt (believed only where the hash
-- says so, since anyone can write a field), the one it was given, or the entry's.
local function identify(prefix, lane, id, fields)
  local again = field(fields, '_job')
  if valid_id(again) then
    local at = redis.call('HMGET', result_key(prefix, again), '_entry', '_lane')
    if at[1] == id and at[2] == lane then return again end
  end
  local given = field(fields, 'job')
  if valid_id(given) and not is_entry_id(given) then return given end
  return entry_job(lane, id)
end

-- Whether the job's entry, as its hash names it, still is in its lane or waits for its retry.
local function lives(prefix, job, entry, lane)
  if redis.call('EXISTS', prefix .. ':delayed:' .. job) == 1 then return true end
  if not lane or not string.find(entry or '', '^%d+%-%d+$') then return false end
  return payload(lane_key(prefix, lane), entry) ~= nil
end

local function take_off(stream, group, id)
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
end

-- The lanes that an operator has paused: nothing new of them is begun, taken over or promoted.
local function paused_lanes(prefix)
  local lanes = { 'high', 'normal', 'bulk' }
  local since = redis.call('HMGET', claim_hash(prefix .. ':paused'), unpack(lanes))
  local paused = {}
  for i, lane in ipairs(lanes) do paused[lane] = since[i] and true or nil end
  return paused
end

-- A job is armed from begin until finish, retry or give-back: `_armed` is '<owner>:<count>:alone',
-- or '…:company' where other jobs are armed in the same process.
local function holding(owner, count)
  return owner .. ':' .. count .. ':'
end

-- 'alone' or 'company' where the job is armed by that very holding of that very entry; else nil.
local function armed_how(key, lane, id, owner, count)
  local known, by = redis.call('HMGET', key, '_armed', '_entry', '_lane'), holding(owner, count)
  if known[2] ~= id or known[3] ~= lane then return end
  if known[1] and string.sub(known[1], 1, #by) == by then return string.sub(known[1], #by + 1) end
end

-- Whether the job's hash names another entry: this one was deleted, and the job submitted anew.
local function moved_on(key, lane, id)
  local known = redis.call('HMGET', key, '_entry', '_lane')
  return known[1] and (known[1] ~= id or known[2] ~= lane)
end

-- Evidence of a crash is one field of the job's hash, kept over retries: 'alone' or 'company'.
local function crash_field(id, owner, count)
  return '_crash:' .. id .. ':' .. owner .. ':' .. count
end

-- How many workers died with this job in them, and how many of those with nothing else.
local function crashes(key)
  local total, alone = 0, 0
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if string.sub(flat[i], 1, 7) == '_crash:' then
      total = total + 1
      if flat[i + 1] == 'alone' then alone = alone + 1 end
    end
  end
  return total, alone
end

-- How often a worker that lives lost this entry, or had to take it from itself.
local function lapses_of(key, id)
  return whole(redis.call('HGET', key, '_lapses:' .. id))
end

local function note_lapse(key, id)
  redis.call('HSET', key, '_lapses:' .. id, lapses_of(key, id) + 1)
end

-- Whether a job may only run alone. `count` deliveries of the entry; each of its `lapses` was one of
-- them, and no fault of the job.
local function suspicious(crashed, count, lapses)
  return crashed >= SUSPECT_CRASHES or count - math.min(MAX_LAPSES, lapses) >= SUSPECT_DELIVERIES
end

-- Called for a worker that lives and finds its entry taken: it did not crash, it lapsed. Its job may
-- have ended meanwhile, and its evidence be gone.
local function withdraw(prefix, job, id, owner, count)
  local key = result_key(prefix, job)
  if redis.call('HDEL', key, crash_field(id, owner, count)) == 1 then note_lapse(key, id) end
end

-- Where it is told for a week which streams were put right: by their name, when, and what was done.
local function tell_healed(prefix, stream, what)
  local healed = claim_hash(prefix .. ':healed')
  redis.call('HSET', healed, stream, now_ms() .. ' ' .. what)
  redis.call('PEXPIRE', healed, 604800000)
end

-- Puts away what stands in the place of a stream, so that the stream can be begun anew.
local function put_away(prefix, stream, why)
  local aside = stream .. ':' .. why .. '-' .. now_ms()
  redis.call('RENAME', stream, aside)
  tell_healed(prefix, stream, aside)
end

-- Adds to a stream that nobody's jobs are in. One that is sealed, since somebody chose the last id that
-- there is, would fail the script after its first write: it is put aside, and begun anew.
local function append(prefix, stream, ...)
  local id = redis.pcall('XADD', stream, ...)
  if type(id) ~= 'table' then return end
  if not string.find(id.err, 'exhausted', 1, true) then error(id.err) end
  put_away(prefix, stream, 'sealed')
  redis.call('XADD', stream, ...)
end

-- Names a stream that may stop no job: anything else that stands in its place is put aside.
local function claim_stream(prefix, stream)
  local found = redis.call('TYPE', stream).ok
  if found ~= 'stream' and found ~= 'none' then put_away(prefix, stream, 'broken') end
  return stream
end
