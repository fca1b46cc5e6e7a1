-- Ends a job with its result, its failure, or as a dead letter. KEYS: its lane. ARGV: prefix group
-- ttl_ms results_maxlen owner id count job status lane reason ('' for no dead letter), then fields.
-- Returns SETTLED, ALREADY (it was terminal: nothing changed) or FENCED (it is no longer ours).
local at = settling(ARGV)
local stream, owner, id, count, job = KEYS[1], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local status, lane, reason = ARGV[9], ARGV[10], ARGV[11]
must_be_settleable(at.prefix)
if not ours(stream, at.group, id, owner, count) then
  -- A repeat after a lost reply: the entry is gone because we ended the job.
  local known = redis.call('HMGET', result_key(at.prefix, job), 'status', 'worker')
  local ended = TERMINAL[known[1]] and known[2] == owner and not payload(stream, id)
  if ended then return 'ALREADY' end
  withdraw(at.prefix, job, id, owner, count)
  return 'FENCED'
end
if moved_on(result_key(at.prefix, job), lane, id) then
  take_off(stream, at.group, id)
  return 'FENCED'
end
return settle(at, stream, id, job, {
  status = status,
  reason = reason ~= '' and reason or nil,
  owner = owner,
  lane = lane,
  fields = { unpack(ARGV, 12) },
})
