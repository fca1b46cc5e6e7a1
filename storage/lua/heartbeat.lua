-- Renews the leases of a batch of entries. KEYS: the lane of each entry. ARGV: group owner, then for
-- each entry id count. Returns the places (from 1) of those that are no longer ours.
local group, owner = ARGV[1], ARGV[2]
local lost = {}
for i = 1, #KEYS do
  local id, count = ARGV[1 + 2 * i], ARGV[2 + 2 * i]
  local renewed = ours(KEYS[i], group, id, owner, count)
    and redis.call('XCLAIM', KEYS[i], group, owner, 0, id, 'JUSTID')
  if not renewed or #renewed == 0 then lost[#lost + 1] = i end
end
return lost
