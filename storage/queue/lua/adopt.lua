-- Makes entries anybody's that were delivered and are in nobody's pending list: somebody deleted their
-- consumer. KEYS: the lane. ARGV: prefix group lane, then the ids of entries that were read, and are no
-- later than the last that was delivered. Returns how many were stranded.
local stream, prefix, group, lane = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local function adopt(id, fields)
  local key = result_key(prefix, identify(prefix, lane, id, fields))
  local known = redis.call('HMGET', key, '_armed', '_entry', '_lane')
  local count = 0
  if known[1] and known[2] == id and known[3] == lane then
    local owner, delivered, how = string.match(known[1], '^(.*):(%d+):(%a+)$')
    -- Most likely it died, and was cleared away. If it lives, its heartbeat withdraws this.
    if owner then
      count = delivered
      redis.call('HDEL', key, '_armed')
      redis.call('HSET', key, crash_field(id, owner, count), how)
    end
  end
  redis.call('XCLAIM', stream, group, GIVEN_BACK, 0, id,
    'IDLE', 86400000, 'RETRYCOUNT', count, 'FORCE', 'JUSTID')
end

local stranded = 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local fields = #redis.call('XPENDING', stream, group, id, id, 1) == 0 and payload(stream, id)
  if fields then
    adopt(id, fields)
    stranded = stranded + 1
  end
end
return stranded
