-- Renews the leases of a batch of entries. KEYS: the lane of each entry. ARGV: prefix group owner
-- renew ('0' to look and let them run out), then for each entry id count job ('' if not begun).
-- Returns the places (from 1) of those that are no longer ours.
local prefix, group, owner, renew = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local lost = {}
for i = 1, #KEYS do
  local id, count, job = unpack(ARGV, 2 + 3 * i, 4 + 3 * i)
  local kept = ours(KEYS[i], group, id, owner, count)
  if kept and renew then
    kept = #redis.call('XCLAIM', KEYS[i], group, owner, 0, id, 'JUSTID') > 0
  end
  if not kept then
    lost[#lost + 1] = i
    if job ~= '' then withdraw(prefix, job, id, owner, count) end
  end
end
return lost
