-- Renews the leases of a batch of entries. KEYS: the lane of each entry. ARGV: prefix group owner,
-- then for each entry id count job ('' if not begun). Returns the places (from 1) of those that are
-- no longer ours.
local prefix, group, owner = ARGV[1], ARGV[2], ARGV[3]
local lost = {}
for i = 1, #KEYS do
  local id, count, job = unpack(ARGV, 1 + 3 * i, 3 + 3 * i)
  local renewed = ours(KEYS[i], group, id, owner, count)
    and redis.call('XCLAIM', KEYS[i], group, owner, 0, id, 'JUSTID')
  if not renewed or #renewed == 0 then
    lost[#lost + 1] = i
    if job ~= '' then withdraw(prefix, job, id, owner, count) end
  end
end
return lost
