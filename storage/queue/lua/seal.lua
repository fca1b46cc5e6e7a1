-- Says how many jobs and repeats a batch is to have. KEYS: the batch. ARGV: prefix group ttl_ms
-- results_maxlen batch total. It may come before any of them.
-- Returns {SEALED or COMPLETE, how many are known}; or, with nothing changed, {TOO_FEW, how many are
-- known} or {ENDED, its total} where it is complete with another one.
local at = settling(ARGV)
local batch, total = ARGV[5], tonumber(ARGV[6])
claim_batch(at.prefix, batch)
local now = batches().tally(at.prefix, batch)
local known = now.jobs + now.repeated
if now.status == 'complete' then
  return { now.total == total and 'COMPLETE' or 'ENDED', now.total }
end
if total < known and total ~= now.total then return { 'TOO_FEW', known } end
redis.call('HSET', batches().open(at.prefix, batch), 'status', 'sealed', 'total', total)
now = batches().changed(at, batch)
return { now.status == 'complete' and 'COMPLETE' or 'SEALED', known }
