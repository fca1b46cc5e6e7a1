-- Removes consumers that are silent and hold nothing. KEYS: the lanes. ARGV: group owner idle_ms.
-- The owner itself is removed whatever its idle time, so a worker can leave with idle_ms of a day.
-- Returns how many were removed.
local group, owner, idle_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local removed = 0
for _, stream in ipairs(KEYS) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  if not consumers.err then
    for _, flat in ipairs(consumers) do
      local name, pending, idle = field(flat, 'name'), field(flat, 'pending'), field(flat, 'idle')
      -- Deleting a consumer destroys its pending list, so only an empty one may go.
      if pending == 0 and (idle > idle_ms or name == owner) then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
        removed = removed + 1
      end
    end
  end
end
return removed
