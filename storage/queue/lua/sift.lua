-- Looks through dead letters, newest first, and changes nothing. KEYS: the dead letters. ARGV: newest
-- oldest most page reason ('' for any) list ('' to count alone). It looks at `most` letters, `page` at
-- a time: each may hold a job of the largest size.
-- Returns {where to look on, or '' at the end, entries, jobs, reasons, counts}, of those with that
-- reason: each, or where they are counted the newest of each reason.
local stream, newest, oldest = KEYS[1], ARGV[1], ARGV[2]
local most, page, reason, list = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6] ~= ''
local entries, jobs, reasons, counts, places = {}, {}, {}, {}, {}
must_be(stream, 'stream')

local function take(entry, fields)
  -- Where a worker puts it; anyone may have written a letter by hand.
  local why = fields[3] == '_reason' and fields[4] or field(fields, '_reason') or ''
  if reason ~= '' and why ~= reason then return end
  local place = not list and places[why]
  if place then
    counts[place] = counts[place] + 1
  else
    place = #entries + 1
    entries[place], reasons[place], counts[place] = entry, why, 1
    jobs[place] = fields[1] == '_job' and fields[2] or field(fields, '_job') or ''
    places[why] = place
  end
end

local left = most
while left > 0 do
  local letters = redis.call('XREVRANGE', stream, newest, oldest, 'COUNT', page)
  for _, letter in ipairs(letters) do
    take(letter[1], letter[2])
    newest = '(' .. letter[1]
  end
  if #letters < page then newest = '' end
  left = newest ~= '' and left - page or 0
end
return { newest, entries, jobs, reasons, counts }
