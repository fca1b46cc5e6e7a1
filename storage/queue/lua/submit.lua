-- Enqueues a job under an id of its own, once. KEYS: the lanes. ARGV: prefix job lane max_backlog,
-- then the fields. Returns {QUEUED, entry}, {EXISTS, status}, {FOREIGN, ''} (an entry's id, and no
-- job is known by it) or {FULL, backlog}.
local prefix, job, lane, max_backlog = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local key, delayed = result_key(prefix, job), prefix .. ':delayed'
local backlog = 0
for _, stream in ipairs(KEYS) do
  must_be(stream, 'stream')
  backlog = backlog + redis.call('XLEN', stream)
end
must_be(delayed, 'zset')
local known = redis.call('HMGET', key, 'status', 'run', '_entry', '_lane')
local status = known[1]
if status == 'done' then return { 'EXISTS', status } end
-- A live job whose entry somebody deleted will never end: it is run anew.
if status and not TERMINAL[status] and lives(prefix, job, known[3], known[4]) then
  return { 'EXISTS', status }
end
if not status and is_entry_id(job) then return { 'FOREIGN', '' } end
if backlog >= max_backlog then return { 'FULL', backlog } end
local waiting = claim_hash(delayed .. ':' .. job)

local entry = redis.call('XADD', lane_key(prefix, lane), '*', unpack(ARGV, 5))
redis.call('ZREM', delayed, job)
redis.call('DEL', key, waiting)
redis.call('HSET', key, 'status', 'queued', 'run', whole(known[2]) + 1,
  '_entry', entry, '_lane', lane)
return { 'QUEUED', entry }
