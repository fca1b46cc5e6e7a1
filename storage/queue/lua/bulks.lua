-- Counts bulks by their status, and changes nothing. KEYS: the list of all. ARGV: prefix, how many are
-- looked at at most, the newest. Returns {how long nobody has got on with one, in ms: the longest of
-- those that control is to get on with; then statuses and counts in turn}. One that runs and says
-- what it waits for is `waiting`. What somebody else put there counts as none.
local prefix, most = ARGV[1], ARGV[2]
local moving = { running = true, ending = true, cancelling = true }
local counts, silent_ms = {}, 0
local ids = {}
if redis.call('TYPE', KEYS[1]).ok == 'zset' then
  ids = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '-inf', 'LIMIT', 0, most)
end
for _, id in ipairs(ids) do
  local now = redis.pcall('HMGET', prefix .. ':bulk:' .. id, 'status', 'updated_at_ms', 'error')
  local status = not now.err and now[1]
  if status then
    local since_ms = string.match(now[2] or '', '^%d%d?%d?%d?%d?%d?%d?%d?%d?%d?%d?%d?%d?%d?$')
    if moving[status] and since_ms then silent_ms = math.max(silent_ms, now_ms() - since_ms) end
    if status == 'running' and now[3] and now[3] ~= '' then status = 'waiting' end
    counts[status] = (counts[status] or 0) + 1
  end
end
local told = { string.format('%.0f', silent_ms) }
for status, count in pairs(counts) do
  told[#told + 1] = status
  told[#told + 1] = count
end
return told
