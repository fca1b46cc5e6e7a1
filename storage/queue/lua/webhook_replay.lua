-- Has dead webhooks sent again, from their first attempt on. KEYS: the webhooks, the dead ones. ARGV:
-- prefix, then the entries. Returns for each 1, or 0 where it is gone.
local stream, dead, prefix = KEYS[1], KEYS[2], ARGV[1]
must_be(dead, 'stream')
claim_stream(prefix, stream)
local replayed = {}
for i = 2, #ARGV do
  local fields = payload(dead, ARGV[i])
  local sent = {}
  for at = 1, fields and math.min(#fields, MAX_LETTER) or 0, 2 do
    if string.sub(fields[at], 1, 1) ~= '_' then
      sent[#sent + 1] = fields[at]
      sent[#sent + 1] = fields[at + 1]
    end
  end
  if #sent > 0 then
    append(prefix, stream, '*', unpack(sent))
    redis.call('XDEL', dead, ARGV[i])
  end
  replayed[#replayed + 1] = #sent > 0 and 1 or 0
end
return replayed
