-- Makes or changes a bulk, where it is as expected. KEYS: the bulk, the list of all bulks, the rows of
-- it that were refused. ARGV: id, statuses that will do (in commas; none: there must be no such bulk),
-- page that it must be at ('' for any), kept_ms ('' for as long as it has not ended), how many refused
-- rows follow, these, then fields and values.
-- Returns {CHANGED, ''} or, with nothing changed, {OTHER, its status}.
local bulk, all, refused = KEYS[1], KEYS[2], KEYS[3]
local id, expected, page, kept_ms, rows = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
must_be(bulk, 'hash')
must_be(all, 'zset')
must_be(refused, 'list')
local now = redis.call('HMGET', bulk, 'status', 'page')
local status = now[1] or ''
local fits = expected == '' and status == ''
for each in string.gmatch(expected, '[^,]+') do fits = fits or each == status end
if not fits or (page ~= '' and now[2] ~= page) then return { 'OTHER', status } end

local at = string.format('%.0f', now_ms())
if status == '' then
  redis.call('ZADD', all, at, id)
  redis.call('HSET', bulk, 'created_at_ms', at)
end
redis.call('HSET', bulk, 'updated_at_ms', at, unpack(ARGV, 6 + rows))
if rows > 0 then
  redis.call('LPUSH', refused, unpack(ARGV, 6, 5 + rows))
  redis.call('LTRIM', refused, 0, 999)
end
if kept_ms ~= '' then
  redis.call('HSET', bulk, 'ended_at_ms', at)
  redis.call('PEXPIRE', bulk, kept_ms)
  redis.call('PEXPIRE', refused, kept_ms)
end
return { 'CHANGED', '' }
