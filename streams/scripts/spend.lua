-- Put what an effect has cost in the place of its share of a run's budget, once.
--
-- KEYS[1] the budget, as in reserve.lua
-- ARGV[1] the effect   ARGV[2] tokens it used   ARGV[3] calls it made
-- Returns 1; 0 where that was done before, or the effect has no share.
local call, budget, effect = redis.call, KEYS[1], ARGV[1]
local tokens, calls = string.match(call('HGET', budget, effect) or '', '^(%d+) (%d+)$')
if not tokens then
  return 0
end
call('HSET', budget, effect, tokens .. ' ' .. calls .. ' spent')
call('HINCRBY', budget, 'reserved', -tokens)
call('HINCRBY', budget, 'used', ARGV[2])
call('HINCRBY', budget, 'calls', ARGV[3] - calls)
return 1
