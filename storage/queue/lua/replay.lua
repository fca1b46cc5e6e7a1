-- Sends the job of a dead letter again, as a new run of the same job. KEYS: the lanes. ARGV: prefix
-- letter max_backlog drop_deadline ('1' to send it without a deadline that has passed).
-- Returns {REPLAYED, run}, {GONE, ''}, {MOVED_ON, its job's status}, {PAST_DEADLINE, deadline_ms},
-- {UNFIT, why} or {FULL, backlog}; only REPLAYED has changed anything.
local prefix, letter, max_backlog = ARGV[1], ARGV[2], tonumber(ARGV[3])
local drop_deadline = ARGV[4] == '1'
local dead, delayed = prefix .. ':dead', prefix .. ':delayed'
must_be(dead, 'stream')
must_be(delayed, 'zset')
local backlog = 0
for _, stream in ipairs(KEYS) do
  must_be(stream, 'stream')
  backlog = backlog + redis.call('XLEN', stream)
end

local fields = payload(dead, letter)
if not fields then return { 'GONE', '' } end
local job, lane = field(fields, '_job'), field(fields, '_lane')
if not valid_id(job) then return { 'UNFIT', 'its field _job is no job id' } end
if lane ~= 'high' and lane ~= 'normal' and lane ~= 'bulk' then
  return { 'UNFIT', 'its field _lane is no lane' }
end

local key, died_in = result_key(prefix, job), whole(field(fields, '_run'))
local known = redis.call('HMGET', key, 'status', 'run', 'batch')
-- Where the hash has expired, the letter alone says which run it was.
if known[1] and (known[1] ~= 'dead' or whole(known[2]) ~= died_in) then
  return { 'MOVED_ON', known[1] }
end
local deadline = deadline_of(fields)
local late = deadline and deadline < now_ms()
if late and not drop_deadline then return { 'PAST_DEADLINE', deadline } end

local sent = {}
for i = 1, #fields, 2 do
  local name = fields[i]
  if string.sub(name, 1, 1) ~= '_' and not (late and name == 'deadline_ms') then
    sent[#sent + 1] = name
    sent[#sent + 1] = fields[i + 1]
  end
end
-- Our own letters hold no more; anyone may have added one by hand.
if #sent > MAX_LETTER then return { 'UNFIT', 'it holds too many fields' } end
if backlog >= max_backlog then return { 'FULL', backlog } end
local waiting = claim_hash(delayed .. ':' .. job)
local batch = field(fields, '_batch')
if known[1] then batch = known[3] end
batch = valid_id(batch) and claim_batch(prefix, batch) or nil

-- First of the writes: if the lane cannot take it, nothing has changed.
local entry = redis.call('XADD', lane_key(prefix, lane), '*', '_job', job, unpack(sent))
redis.call('XDEL', dead, letter)
redis.call('ZREM', delayed, job)
redis.call('DEL', key, waiting)
redis.call('HSET', key, 'status', 'queued', 'run', died_in + 1, '_entry', entry, '_lane', lane)
keep_callback(key, fields)
if batch and batches().again({ prefix = prefix }, batch, job, 'dead', field(fields, '_reason')) then
  redis.call('HSET', key, 'batch', batch)
end
return { 'REPLAYED', died_in + 1 }
