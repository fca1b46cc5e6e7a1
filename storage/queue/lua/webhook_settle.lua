-- Says what became of webhooks that `owner` has. KEYS: the webhooks, the dead ones. ARGV: prefix group
-- owner, then for each id count verdict detail next_count. The verdict is `done` (it leaves the stream),
-- `dead` (the same, and it is kept among the dead, with `detail` as the reason) or `hand`, to the
-- consumer `detail` and with that count. `count` is of attempts, the one that is under way with them.
-- Returns for each 1, or 0 where it is no longer the owner's: nothing was changed.
local stream, dead = KEYS[1], KEYS[2]
local prefix, group, owner = ARGV[1], ARGV[2], ARGV[3]
claim_stream(prefix, dead)

local function settle(id, count, verdict, detail, next_count)
  if not ours(stream, group, id, owner, count) then return 0 end
  if verdict == 'hand' then
    redis.call('XCLAIM', stream, group, detail, 0, id, 'RETRYCOUNT', next_count, 'JUSTID')
    return 1
  end
  local fields = verdict == 'dead' and payload(stream, id)
  take_off(stream, group, id)
  if fields then
    local kept = {}
    for i = 1, math.min(#fields, MAX_LETTER), 2 do
      if string.sub(fields[i], 1, 1) ~= '_' then
        kept[#kept + 1] = fields[i]
        kept[#kept + 1] = fields[i + 1]
      end
    end
    append(prefix, dead, '*', '_reason', detail, '_attempts', count, unpack(kept))
  end
  return 1
end

local settled = {}
for i = 4, #ARGV, 5 do
  settled[#settled + 1] = settle(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
end
return settled
