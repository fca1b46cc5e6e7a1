-- Cancels a batch by a mark that begin, promote and heartbeat obey. KEYS: the batch. ARGV: prefix
-- batch. It may come before any of its jobs.
-- Returns {MARKED or ENDED (it is complete; nothing changed), how many jobs of it have not ended}.
local prefix, batch = ARGV[1], ARGV[2]
claim_batch(prefix, batch)
local now = batches().tally(prefix, batch)
if now.status == 'complete' then return { 'ENDED', 0 } end
redis.call('HSETNX', batches().open(prefix, batch), 'cancel_at_ms', now_ms())
batches().keep({ prefix = prefix }, batch, batches().tally(prefix, batch))
return { 'MARKED', now.open }
