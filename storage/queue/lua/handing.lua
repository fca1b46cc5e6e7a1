-- Joined in front of `begin` and `give_back`, behind what all scripts share.

-- Hands an entry of `owner` to whoever takes it next. It was no delivery after all, so the count goes
-- down again; the day of idleness makes its lease run out now. A lowered count would revive an older
-- holding of the owner, if it still owned it. Returns whether its job, of that hash, was begun.
local function hand_back(stream, group, lane, id, owner, count, key)
  redis.call('XCLAIM', stream, group, GIVEN_BACK, 0, id, 'IDLE', 86400000,
    'RETRYCOUNT', math.max(0, tonumber(count) - 1), 'JUSTID')
  if not key or not armed_how(key, lane, id, owner, count) then return false end
  redis.call('HDEL', key, '_armed')
  redis.call('HSET', key, 'status', 'queued')
  return true
end
