-- Enqueues a job under an id of its own, once. KEYS: the lanes. ARGV: prefix ttl_ms results_maxlen job
-- lane max_backlog, then the fields. Returns {QUEUED, entry}, {EXISTS, status}, {FOREIGN, ''} (an
-- entry's id, and no job is known by it) or {FULL, backlog}.
local at = { prefix = ARGV[1], ttl_ms = ARGV[2], results_maxlen = ARGV[3] }
local job, lane, max_backlog = ARGV[4], ARGV[5], tonumber(ARGV[6])
local prefix = at.prefix
local key, delayed = result_key(prefix, job), prefix .. ':delayed'
local backlog = 0
for _, stream in ipairs(KEYS) do
  must_be(stream, 'stream')
  backlog = backlog + redis.call('XLEN', stream)
end
must_be(delayed, 'zset')
local known = redis.call('HMGET', key, 'status', 'run', '_entry', '_lane', 'batch', 'error_code')
local status = known[1]
local first, named = claim_batch(prefix, known[5]), claim_batch(prefix, named_batch(ARGV, 7))

-- A live job whose entry somebody deleted will never end: it is run anew.
local live = status and not TERMINAL[status] and lives(prefix, job, known[3], known[4])
if live or status == 'done' then
  if named and named ~= first then batches().count_submitted_repeat(at, named, job) end
  return { 'EXISTS', status }
end
if not status and is_entry_id(job) then return { 'FOREIGN', '' } end
if backlog >= max_backlog then return { 'FULL', backlog } end
local waiting = claim_hash(delayed .. ':' .. job)

local entry = redis.call('XADD', lane_key(prefix, lane), '*', unpack(ARGV, 7))
redis.call('ZREM', delayed, job)
redis.call('DEL', key, waiting)
redis.call('HSET', key, 'status', 'queued', 'run', whole(known[2]) + 1,
  '_entry', entry, '_lane', lane)
keep_callback(key, ARGV, 7)
if first and TERMINAL[status] then
  if not batches().again(at, first, job, status, known[6]) then first = nil end
elseif first and not batches().tally(prefix, first).status then
  first = nil
end
-- A job stays in its first batch.
if first then redis.call('HSET', key, 'batch', first) end
if named and not first then
  batches().join(at, key, named)
elseif named and named ~= first then
  batches().count_submitted_repeat(at, named, job)
end
return { 'QUEUED', entry }
