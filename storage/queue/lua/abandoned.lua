-- Looks for entries of one lane whose lease ran out, or that were given back; changes nothing, and
-- reads none of them. Of a lane that is paused it finds nothing. KEYS: the lane. ARGV: group lease_ms
-- from sent_ms given_back_only page prefix lane. `from` is
-- where to look on; `sent_ms` is when this call was sent, by the server's clock.
-- Returns {entries, given_back_only, now_ms}: entries as {id, owner, count}.
local stream, group, lease_ms, from = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local sent_ms, given_back_only, page = tonumber(ARGV[4]), ARGV[5] == '1', ARGV[6]
given_back_only = given_back_only or held_up(sent_ms, lease_ms)
if paused_lanes(ARGV[7])[ARGV[8]] then return { {}, given_back_only and 1 or 0, now_ms() } end

local reply
if given_back_only then
  reply = redis.pcall('XPENDING', stream, group, from, '+', page, GIVEN_BACK)
else
  reply = redis.pcall('XPENDING', stream, group, 'IDLE', lease_ms, from, '+', page)
end
if reply.err then
  if not string.find(reply.err, 'NOGROUP', 1, true) then error(reply.err) end
  return { {}, 0, now_ms() }
end
local found = {}
for i, pending in ipairs(reply) do found[i] = { pending[1], pending[2], pending[4] } end
return { found, given_back_only and 1 or 0, now_ms() }
