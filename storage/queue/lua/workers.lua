-- Reads what workers say of themselves, and changes nothing. KEYS: their index. ARGV: prefix most.
-- Returns {now_ms, how many there are, workers}: at most so many, those that spoke last first, each as
-- its name and then its fields, name and value in turn.
local prefix, most = ARGV[1], ARGV[2]
must_be(KEYS[1], 'zset')
local now, workers = now_ms(), {}
for _, name in ipairs(redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', now, 'LIMIT', 0, most)) do
  local told = redis.pcall('HGETALL', prefix .. ':worker:' .. name)
  if not told.err and #told > 0 then
    table.insert(told, 1, name)
    workers[#workers + 1] = told
  end
end
return { now, redis.call('ZCOUNT', KEYS[1], now, '+inf'), workers }
