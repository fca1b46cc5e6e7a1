-- Takes webhooks over from another consumer, or from oneself what never came. KEYS: the webhooks. ARGV:
-- group owner from min_idle_ms limit. Returns them as {id, count}.
local stream, group, owner = KEYS[1], ARGV[1], ARGV[2]
local taken = {}
local found = redis.call('XPENDING', stream, group, 'IDLE', ARGV[4], '-', '+', ARGV[5], ARGV[3])
for i, pending in ipairs(found) do
  redis.call('XCLAIM', stream, group, owner, 0, pending[1], 'RETRYCOUNT', pending[4], 'JUSTID')
  taken[i] = { pending[1], pending[4] }
end
return taken
