-- Puts a lane aside whose ids are a day ahead of the clock, or used up, and begins it anew; all that is
-- added to it by `*` would get such ids too, or be refused. KEYS: the lane, where it is put aside.
-- ARGV: prefix group came_to_nothing (1 where there was nothing to be given out, though some are aside).
-- Returns {1 where that was done now, how many entries are aside, the group that gives them out}.
local stream, aside, prefix, group = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local came_to_nothing = ARGV[3] == '1'
local DAY_MS = 86400000
must_be(aside, 'stream')
claim_hash(prefix .. ':healed')
local waiting = redis.call('XLEN', aside)
if waiting == 0 then redis.call('DEL', aside) end

-- The group that gives out what is aside. What somebody deleted with its consumer is in nobody's
-- pending list, and given out again by a new group only.
local function rescuers()
  local found
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', aside)) do
    local name, pending = field(flat, 'name'), field(flat, 'pending')
    local is_ours = string.sub(name, 1, #RESCUERS) == RESCUERS
    if is_ours and (not found or pending >= found.pending) then
      found = { name = name, pending = pending }
    end
  end
  if found and not (came_to_nothing and found.pending == 0) then return found.name end
  local name = RESCUERS .. (found and '-' .. now_ms() or '')
  redis.call('XGROUP', 'CREATE', aside, name, 0)
  return name
end

local about = redis.pcall('XINFO', 'STREAM', stream)
if waiting > 0 then return { 0, waiting, rescuers() } end
if about.err then return { 0, 0, '' } end
local last_ms = tonumber(string.match(field(about, 'last-generated-id'), '^%d+'))
if last_ms < now_ms() + DAY_MS then return { 0, 0, '' } end

redis.call('RENAME', stream, aside)
-- What workers have of it is theirs no more: it is fenced, and done again.
redis.call('XGROUP', 'CREATE', aside, RESCUERS, 0)
redis.call('XGROUP', 'CREATE', stream, group, 0, 'MKSTREAM')
tell_healed(prefix, stream, 'begun anew')
waiting = redis.call('XLEN', aside)
if waiting == 0 then redis.call('DEL', aside) end
return { 1, waiting, RESCUERS }
