-- Enqueues a job under an id of its own, once. KEYS: the lanes. ARGV: prefix job lane max_backlog,
-- then the fields. Returns {QUEUED, entry}, {EXISTS, status} or {FULL, backlog}.
local prefix, job, lane = ARGV[1], ARGV[2], ARGV[3]
local key = result_key(prefix, job)
local backlog = 0
for _, stream in ipairs(KEYS) do
  must_be(stream, 'stream')
  backlog = backlog + redis.call('XLEN', stream)
end
local known = redis.call('HMGET', key, 'status', 'run')
local status = known[1]
if status and (status == 'done' or not TERMINAL[status]) then return { 'EXISTS', status } end
if backlog >= tonumber(ARGV[4]) then return { 'FULL', backlog } end

local stream = prefix .. (lane == 'normal' and ':jobs' or ':jobs:' .. lane)
local entry = redis.call('XADD', stream, '*', unpack(ARGV, 5))
redis.call('DEL', key)
redis.call('HSET', key, 'status', 'queued', 'run', tonumber(known[2] or 0) + 1,
  '_entry', entry, '_lane', lane)
return { 'QUEUED', entry }
