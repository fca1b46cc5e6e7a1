-- The id of the event at one end of a range, for one that is too large to be read. KEYS: the events.
-- ARGV: from, to; '+' before '-' for the newest. Returns its id; nil where there is none.
local command = ARGV[1] == '+' and 'XREVRANGE' or 'XRANGE'
local found = redis.call(command, KEYS[1], ARGV[1], ARGV[2], 'COUNT', 1)
return found[1] and found[1][1]
