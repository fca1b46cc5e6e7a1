-- Counts those of some batches that are not complete, and changes nothing. KEYS: their index. ARGV:
-- prefix, then the batches. Returns {open, sealed, jobs of both that have not ended}.
local prefix = ARGV[1]
local found, unfinished = { open = 0, sealed = 0 }, 0
for i = 2, #ARGV do
  -- Somebody may have deleted it, or put something else in its place.
  if redis.call('TYPE', prefix .. ':batch:' .. ARGV[i]).ok == 'hash' then
    local now = batches().tally(prefix, ARGV[i])
    if found[now.status] then
      found[now.status] = found[now.status] + 1
      unfinished = unfinished + math.max(0, now.open)
    end
  end
end
return { found.open, found.sealed, unfinished }
