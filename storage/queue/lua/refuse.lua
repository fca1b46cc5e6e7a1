-- Ends entries that are too large to be read; no script reads them either. KEYS: the lane of each
-- entry. ARGV: prefix group ttl_ms results_maxlen owner, then for each entry lane id count.
-- Returns how many were ours to end.
local at = settling(ARGV)
local owner = ARGV[5]
must_be_settleable(at.prefix)
local ended = 0
for i, stream in ipairs(KEYS) do
  local lane, id, count = unpack(ARGV, 3 * i + 3, 3 * i + 5)
  if ours(stream, at.group, id, owner, count) then
    refuse(at, stream, lane, id)
    ended = ended + 1
  end
end
return ended
