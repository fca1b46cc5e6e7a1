-- Gives entries back that this worker will not finish: any worker may take them at once. KEYS: the
-- lane of each entry. ARGV: prefix group owner, then for each entry lane id count job ('' if this
-- worker does not know that it was begun). Returns how many were still ours to give.
local prefix, group, owner = ARGV[1], ARGV[2], ARGV[3]

local function give_back(stream, lane, id, count, job)
  local fields = job == '' and payload(stream, id)
  if fields then job = identify(prefix, lane, id, fields) end
  if not ours(stream, group, id, owner, count) then
    if job ~= '' then withdraw(prefix, job, id, owner, count) end
    return 0
  end
  -- It was no delivery after all, so the count goes down again; the day of idleness makes its lease
  -- run out now. A lowered count would revive an older holding of ours, if we were still the owner.
  redis.call('XCLAIM', stream, group, GIVEN_BACK, 0, id, 'IDLE', 86400000,
    'RETRYCOUNT', math.max(0, tonumber(count) - 1), 'JUSTID')
  local key = job ~= '' and result_key(prefix, job)
  if key and armed_how(key, lane, id, owner, count) then
    redis.call('HDEL', key, '_armed')
    redis.call('HSET', key, 'status', 'queued')
  end
  return 1
end

local given = 0
for i = 1, #KEYS do
  local first = 4 * i
  given = given + give_back(KEYS[i], unpack(ARGV, first, first + 3))
end
return given
