-- Cancels a job that has not ended. KEYS: the lanes. ARGV: prefix group ttl_ms results_maxlen job,
-- then the lane and entry that the id itself names ('' where it names none), and 1 where that entry is
-- oversized: it is not read, and is called as its id says.
-- Returns {CANCELLED, its status before}, {ENDED, its status} (nothing changed) or {UNKNOWN, ''}.
local at = settling(ARGV)
local job, lane, entry = ARGV[5], ARGV[6], ARGV[7]
local delayed = at.prefix .. ':delayed'
must_be_settleable(at.prefix)
must_be(delayed, 'zset')
for _, stream in ipairs(KEYS) do must_be(stream, 'stream') end

local key = result_key(at.prefix, job)
local known = redis.call('HMGET', key, 'status', '_entry', '_lane', 'batch', '_callback')
local status = known[1]
if TERMINAL[status] then return { 'ENDED', status } end
if known[3] and string.find(known[2] or '', '^%d+%-%d+$') then entry, lane = known[2], known[3] end
local stream = lane_key(at.prefix, lane)
local oversized = ARGV[8] == '1' and entry == ARGV[7] and lane == ARGV[6]
local fields = entry ~= '' and not oversized and payload(stream, entry)
-- An entry that was sent with an id of its own is another job.
local foreign = fields and identify(at.prefix, lane, entry, fields) ~= job
if not status and (foreign or not (fields or oversized)) then return { 'UNKNOWN', '' } end
local waiting = claim_hash(delayed .. ':' .. job)
local batch = claim_batch_of(at.prefix, status, known[4], fields or nil)
claim_webhooks(at.prefix, known[5], fields)
-- A lane that was put aside may hold it.
local aside = at.prefix .. ':aside:' .. lane
must_be(aside, 'stream')

if entry ~= '' and not foreign then
  take_off(stream, at.group, entry)
  if not fields then redis.call('XDEL', aside, entry) end
end
redis.call('ZREM', delayed, job)
redis.call('DEL', waiting)
if batch then batches().join(at, key, batch) end
if fields and not foreign then keep_callback(key, fields) end
conclude(at, key, job, { status = 'cancelled', fields = {} })
return { 'CANCELLED', status or 'queued' }
