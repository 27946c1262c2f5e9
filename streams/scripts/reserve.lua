-- Reserve a share of a run's budget for an effect, unless it has one already: so steps side by side can't spend the same
-- tokens, and one that is handled again after a crash reserves nothing twice.
--
-- KEYS[1] the budget (hash that expires): `used` and `reserved` tokens, `calls` made and reserved; for each effect its
-- share as "<tokens> <calls>", with " spent" behind once it is known what it cost
-- ARGV[1] the effect   ARGV[2] tokens it wants   ARGV[3] how many will do   ARGV[4] calls it wants
-- ARGV[5] tokens the run may use   ARGV[6] calls it may make; 0 is any number   ARGV[7] ms for which the budget is kept
-- Returns {tokens granted, used, reserved, calls}; granted is -1 where tokens lack, -2 where calls do.
local call, budget, effect = redis.call, KEYS[1], ARGV[1]
local wanted, enough, calls = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local most, most_calls = tonumber(ARGV[5]), tonumber(ARGV[6])
local held = call('HMGET', budget, effect, 'used', 'reserved', 'calls')
local used, reserved, made = tonumber(held[2] or 0), tonumber(held[3] or 0), tonumber(held[4] or 0)

local granted = wanted
if held[1] then
  granted = tonumber(string.match(held[1], '^%d+'))
elseif most_calls > 0 and made + calls > most_calls then
  granted = -2
else
  if most > 0 then
    granted = math.min(wanted, most - used - reserved)
  end
  if granted < enough then
    granted = -1
  else
    call('HSET', budget, effect, granted .. ' ' .. calls)
    call('HINCRBY', budget, 'reserved', granted)
    call('HINCRBY', budget, 'calls', calls)
    call('PEXPIRE', budget, ARGV[7])
  end
end
return {granted, used, reserved, made}
