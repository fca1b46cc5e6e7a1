-- Renews the leases of a batch of entries. KEYS: the lane of each entry. ARGV: prefix group ttl_ms
-- results_maxlen owner renew ('0' to look and let them run out), then for each entry id count job (''
-- if not begun). A job whose batch was cancelled ends here.
-- Returns the places (from 1) of those that are no longer ours.
local at = settling(ARGV)
local owner, renew = ARGV[5], ARGV[6] == '1'
local lost = {}

-- Whether the job has ended since its batch was cancelled. A stream that is none must not keep us from
-- renewing leases.
local function halt(stream, id, job)
  local key = at.prefix .. ':result:' .. job
  local batch = redis.pcall('HGET', key, 'batch')
  if type(batch) ~= 'string' then return false end
  local known = redis.call('HMGET', key, 'status', '_entry', '_lane', '_callback')
  if known[2] ~= id or lane_key(at.prefix, known[3]) ~= stream or TERMINAL[known[1]] then
    return false
  end
  local able = pcall(function()
    claim_batch(at.prefix, batch)
    must_be_settleable(at.prefix)
    claim_webhooks(at.prefix, known[4])
  end)
  if not able or not batches().is_halted(at.prefix, batch) then return false end
  take_off(stream, at.group, id)
  conclude(at, key, job, HALTED)
  return true
end

for i = 1, #KEYS do
  local id, count, job = unpack(ARGV, 4 + 3 * i, 6 + 3 * i)
  local kept = ours(KEYS[i], at.group, id, owner, count)
  if kept and job ~= '' and halt(KEYS[i], id, job) then
    lost[#lost + 1] = i
  else
    if kept and renew then
      kept = #redis.call('XCLAIM', KEYS[i], at.group, owner, 0, id, 'JUSTID') > 0
    end
    if not kept then
      lost[#lost + 1] = i
      if job ~= '' then withdraw(at.prefix, job, id, owner, count) end
    end
  end
end
return lost
