-- Puts a lane aside whose ids are a day ahead of the clock, or used up, and begins it anew; all that is
-- added to it by `*` would get such ids too, or be refused. KEYS: the lane, where it is put aside.
-- ARGV: prefix group. Returns {1 where that was done now, how many entries are aside}.
local stream, aside, prefix, group = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local DAY_MS = 86400000
must_be(aside, 'stream')
claim_hash(prefix .. ':healed')
local waiting = redis.call('XLEN', aside)
if waiting == 0 then redis.call('DEL', aside) end

-- What was handed to a consumer that somebody deleted, or to a group, is handed out anew: it stands in
-- nobody's pending list, where it is looked for.
local function hand_out_again()
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', aside)) do
    if field(flat, 'name') == RESCUERS then
      if field(flat, 'pending') == 0 then redis.call('XGROUP', 'SETID', aside, RESCUERS, 0) end
      return
    end
  end
  redis.call('XGROUP', 'CREATE', aside, RESCUERS, 0)
end
if waiting > 0 then hand_out_again() end

local about = redis.pcall('XINFO', 'STREAM', stream)
if about.err or waiting > 0 then return { 0, waiting } end
local last_ms = tonumber(string.match(field(about, 'last-generated-id'), '^%d+'))
if last_ms < now_ms() + DAY_MS then return { 0, 0 } end

redis.call('RENAME', stream, aside)
-- What workers have of it is theirs no more: it is fenced, and done again.
redis.call('XGROUP', 'CREATE', aside, RESCUERS, 0)
redis.call('XGROUP', 'CREATE', stream, group, 0, 'MKSTREAM')
tell_healed(prefix, stream, 'begun anew')
waiting = redis.call('XLEN', aside)
if waiting == 0 then redis.call('DEL', aside) end
return { 1, waiting }
