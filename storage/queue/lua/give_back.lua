-- Gives entries back that this worker will not finish: any worker may take them at once. KEYS: the
-- lane of each entry. ARGV: prefix group owner most, then for each entry lane id count job ('' if this
-- worker does not know that it was begun). `most` is for a machine at fault: how often a job may be
-- given back for that; '' where it is not counted. Returns for each GIVEN, FENCED or OFTEN (it was
-- given back so often before: nothing changed).
local prefix, group, owner, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local function give_back(stream, lane, id, count, job)
  local fields = job == '' and payload(stream, id)
  if fields then job = identify(prefix, lane, id, fields) end
  if not ours(stream, group, id, owner, count) then
    if job ~= '' then withdraw(prefix, job, id, owner, count) end
    return 'FENCED'
  end
  local key = job ~= '' and result_key(prefix, job)
  local before = key and most and whole(redis.call('HGET', key, '_sick'))
  if before and before >= most then return 'OFTEN' end
  if hand_back(stream, group, lane, id, owner, count, key) and before then
    redis.call('HSET', key, '_sick', before + 1)
  end
  return 'GIVEN'
end

local verdicts = {}
for i = 1, #KEYS do
  local first = 4 * i + 1
  verdicts[i] = give_back(KEYS[i], unpack(ARGV, first, first + 3))
end
return verdicts
