-- Ends a job with its result, its failure, or as a dead letter. KEYS: its lane. ARGV: prefix group
-- ttl_ms results_maxlen owner id count job status reason ('' for no dead letter), then the fields.
-- Returns SETTLED, ALREADY (it was terminal: nothing changed) or FENCED (it is no longer ours).
local at = settling(ARGV)
local owner, id, reason = ARGV[5], ARGV[6], ARGV[10]
if not ours(KEYS[1], at.group, id, owner, ARGV[7]) then return 'FENCED' end
return settle(at, KEYS[1], id, ARGV[8], {
  status = ARGV[9],
  reason = reason ~= '' and reason or nil,
  owner = owner,
  fields = { unpack(ARGV, 11) },
})
