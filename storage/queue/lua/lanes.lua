-- Looks at the lanes, and changes nothing. KEYS: the lanes, in the order high, normal, bulk. ARGV:
-- prefix group sample (how many of the next retries and the newest letters tell their lanes).
-- Returns {now_ms, lanes, delayed, dead, the newest letter's id or ''}: each lane as {length, last delivered, {given back,
-- oldest}, consumers}, each consumer as {name, pending, idle_ms, oldest}; the oldest as entry ids,
-- or ''; what is next to be delivered is not looked at, as it may be oversized; delayed and dead as {count, sampled, high, normal, bulk}.
local prefix, group, sample = ARGV[1], ARGV[2], ARGV[3]
-- A letter is read whole: of large ones there are fewer in the sample.
local SAMPLE_BYTES = 1024 * 1024
local delayed, dead = prefix .. ':delayed', prefix .. ':dead'

local function group_of(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, flat in ipairs(groups.err and {} or groups) do
    if field(flat, 'name') == group then return flat end
  end
end

local function look(stream)
  must_be(stream, 'stream')
  local known = group_of(stream)
  local given_back, consumers = { 0, '' }, {}
  for _, flat in ipairs(known and redis.call('XINFO', 'CONSUMERS', stream, group) or {}) do
    local name, pending = field(flat, 'name'), field(flat, 'pending')
    local first = pending > 0 and redis.call('XPENDING', stream, group, '-', '+', 1, name)[1]
    local oldest = first and first[1] or ''
    if name == GIVEN_BACK then
      given_back = { pending, oldest }
    else
      consumers[#consumers + 1] = { name, pending, field(flat, 'idle'), oldest }
    end
  end
  local last = known and field(known, 'last-delivered-id') or '0-0'
  return { redis.call('XLEN', stream), last, given_back, consumers }
end

local function by_lane(count, lanes)
  local found = { high = 0, normal = 0, bulk = 0 }
  for _, lane in ipairs(lanes) do
    if found[lane] then found[lane] = found[lane] + 1 end
  end
  return { count, #lanes, found.high, found.normal, found.bulk }
end

local lanes = {}
for i, stream in ipairs(KEYS) do lanes[i] = look(stream) end

must_be(delayed, 'zset')
must_be(dead, 'stream')
local waiting, letters, newest = {}, {}, ''
for i, job in ipairs(redis.call('ZRANGE', delayed, 0, sample - 1)) do
  local lane = redis.pcall('HGET', delayed .. ':' .. job, '_lane')
  waiting[i] = type(lane) == 'string' and lane or ''
end
local from, left_bytes = '+', SAMPLE_BYTES
for i = 1, sample do
  local letter = left_bytes > 0 and redis.call('XREVRANGE', dead, from, '-', 'COUNT', 1)[1]
  if not letter then break end
  if i == 1 then newest = letter[1] end
  letters[i] = field(letter[2], '_lane') or ''
  for _, part in ipairs(letter[2]) do left_bytes = left_bytes - #part end
  from = '(' .. letter[1]
end
return {
  now_ms(), lanes,
  by_lane(redis.call('ZCARD', delayed), waiting), by_lane(redis.call('XLEN', dead), letters),
  newest,
}
