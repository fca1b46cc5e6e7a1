-- Ends jobs, each with its result, its failure, or as a dead letter. KEYS: the lane of each. ARGV:
-- prefix group ttl_ms results_maxlen owner; how many of the next are fields that all who are done
-- have in common, and these; then for each job id count job status lane reason ('' for no dead
-- letter), how many of the next are its own fields, and these.
-- Returns for each SETTLED, ALREADY (it was terminal: nothing changed), FENCED (it is no longer ours),
-- or the text of the error that it met, which stops no other.
local at = settling(ARGV)
local owner, common = ARGV[5], { unpack(ARGV, 7, 6 + ARGV[6]) }
must_be_settleable(at.prefix)

local function finish(stream, id, count, job, ending)
  local key = result_key(at.prefix, job)
  local known = redis.call('HMGET', key, 'status', '_entry', '_lane', 'worker', 'batch', '_callback')
  if not ours(stream, at.group, id, owner, count) then
    -- A repeat after a lost reply: the entry is gone because we ended the job.
    if TERMINAL[known[1]] and known[4] == owner and not payload(stream, id) then return 'ALREADY' end
    withdraw(at.prefix, job, id, owner, count)
    return 'FENCED'
  end
  local fields = (ending.reason or not known[1]) and payload(stream, id) or nil
  local batch = claim_batch_of(at.prefix, known[1], known[5], fields)
  claim_webhooks(at.prefix, known[6], fields)
  take_off(stream, at.group, id)
  -- It names another entry: this one was deleted, and the job submitted anew.
  if known[2] and (known[2] ~= id or known[3] ~= ending.lane) then return 'FENCED' end
  if TERMINAL[known[1]] then return 'ALREADY' end
  if batch then batches().join(at, key, batch) end
  if fields then keep_callback(key, fields) end
  conclude(at, key, job, ending, ending.reason and fields)
  return 'SETTLED'
end

local replies, place = {}, 7 + ARGV[6]
for i = 1, #KEYS do
  local id, count, job, status, lane, reason, num_fields = unpack(ARGV, place, place + 6)
  local fields = { unpack(ARGV, place + 7, place + 6 + num_fields) }
  if status == 'done' then
    for _, each in ipairs(common) do fields[#fields + 1] = each end
  end
  place = place + 7 + num_fields
  local ended, reply = pcall(finish, KEYS[i], id, count, job, {
    status = status,
    reason = reason ~= '' and reason or nil,
    owner = owner,
    lane = lane,
    fields = fields,
  })
  if not ended then reply = type(reply) == 'table' and reply.err or tostring(reply) end
  -- Of no job, but of the server, which takes no writes: whoever is connected to it is to know.
  if not ended and string.find(reply, 'READONLY', 1, true) then error(reply) end
  replies[i] = reply
end
return replies
