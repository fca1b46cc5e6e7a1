-- Makes entries anybody's that were delivered and are in nobody's pending list: somebody deleted their
-- consumer. KEYS: the lane. ARGV: prefix group lane, then of entries that are no later than the last that
-- was delivered the id and state, which is '' for one that was read, or 'oversized' for one that must not
-- be: whoever takes that over ends it. Returns how many were stranded.
local stream, prefix, group, lane = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local function evidence(id, fields)
  local key = result_key(prefix, identify(prefix, lane, id, fields))
  local known = redis.call('HMGET', key, '_armed', '_entry', '_lane')
  if not (known[1] and known[2] == id and known[3] == lane) then return 0 end
  local owner, delivered, how = string.match(known[1], '^(.*):(%d+):(%a+)$')
  -- Most likely it died, and was cleared away. If it lives, its heartbeat withdraws this.
  if not owner then return 0 end
  redis.call('HDEL', key, '_armed')
  redis.call('HSET', key, crash_field(id, owner, delivered), how)
  return delivered
end

local function adopt(id, count)
  redis.call('XCLAIM', stream, group, GIVEN_BACK, 0, id,
    'IDLE', 86400000, 'RETRYCOUNT', count, 'FORCE', 'JUSTID')
end

local stranded = 0
for i = 4, #ARGV, 2 do
  local id, oversized = ARGV[i], ARGV[i + 1] == 'oversized'
  if #redis.call('XPENDING', stream, group, id, id, 1) == 0 then
    local fields = not oversized and payload(stream, id)
    if fields then adopt(id, evidence(id, fields)) end
    if oversized then adopt(id, 0) end
    if fields or oversized then stranded = stranded + 1 end
  end
end
return stranded
