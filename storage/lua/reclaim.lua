-- Takes over entries of one lane whose lease ran out. KEYS: the lane. ARGV: prefix group ttl_ms
-- results_maxlen owner lane lease_ms limit max_deliveries given_back_only.
-- Returns {entries, gone, dead}: entries as {id, count, fields}.
local at = settling(ARGV)
local stream, owner, lane, lease_ms, limit = KEYS[1], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local max_deliveries, given_back_only = tonumber(ARGV[9]), ARGV[10] == '1'
must_be_settleable(at.prefix)
local reply = redis.pcall('XPENDING', stream, at.group, 'IDLE', lease_ms, '-', '+', limit)
if reply.err then
  if string.find(reply.err, 'NOGROUP', 1, true) then return { {}, 0, 0 } end
  error(reply.err)
end

local entries, gone, dead = {}, 0, 0
for _, pending in ipairs(reply) do
  local id, before, count = pending[1], pending[2], pending[4]
  local fields = payload(stream, id)
  if not fields then
    redis.call('XACK', stream, at.group, id)
    gone = gone + 1
    -- Its hash can be found where the job had no id of its own.
    local job = lane == 'normal' and id or lane .. '-' .. id
    local key = result_key(at.prefix, job)
    local known = redis.call('HMGET', key, 'status', '_entry', '_lane')
    if known[2] == id and known[3] == lane and not TERMINAL[known[1]] then
      conclude(at, key, job, LOST)
    end
  else
    local job = identify(at.prefix, lane, id, fields)
    local key = result_key(at.prefix, job)
    local known = redis.call('HMGET', key, 'status', '_armed')
    local armed = known[2] == before .. ':' .. count
    if TERMINAL[known[1]] then
      take_off(stream, at.group, id)
    elseif not (armed and given_back_only) then
      if armed then
        -- It was running when its worker fell silent. A worker that lives may withdraw this.
        redis.call('HSET', key, '_crash:' .. id .. ':' .. before .. ':' .. count, 1)
        redis.call('HDEL', key, '_armed')
      end
      if count >= max_deliveries then
        settle(at, stream, id, job, {
          status = 'dead', reason = 'crash_loop', owner = before, lane = lane,
          fields = { 'error_code', 'crash_loop', 'error',
            'delivered ' .. count .. ' times and never came to an end' },
        })
        dead = dead + 1
      else
        redis.call('XCLAIM', stream, at.group, owner, 0, id, 'JUSTID', 'RETRYCOUNT', count + 1)
        entries[#entries + 1] = { id, count + 1, fields }
      end
    end
  end
end
return { entries, gone, dead }
