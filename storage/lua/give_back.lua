-- Gives entries back that this worker will not finish: any worker may take them at once. KEYS: the
-- lane of each entry. ARGV: prefix group owner, then for each entry id count job ('' if not begun).
-- Returns how many were still ours to give.
local prefix, group, owner = ARGV[1], ARGV[2], ARGV[3]
local given = 0
for i = 1, #KEYS do
  local first = 1 + 3 * i
  local id, count, job = ARGV[first], ARGV[first + 1], ARGV[first + 2]
  if ours(KEYS[i], group, id, owner, count) then
    local key = job ~= '' and result_key(prefix, job)
    if key and redis.call('HGET', key, '_armed') == owner .. ':' .. count then
      redis.call('HDEL', key, '_armed')
      redis.call('HSET', key, 'status', 'queued')
    end
    -- The lowered count fences late heartbeats and finishes of our own; the day of idleness makes
    -- its lease run out now.
    redis.call('XCLAIM', KEYS[i], group, owner, 0, id, 'IDLE', 86400000,
      'RETRYCOUNT', tonumber(count) - 1, 'JUSTID')
    given = given + 1
  end
end
return given
