-- End a consumer's lease: what it still holds may be reclaimed at once. Without such entries the consumer is removed;
-- in the same step, since removing a consumer with pending entries would make those unclaimable.
--
-- KEYS[1] the stream   KEYS[2] leases   ARGV[1] the group   ARGV[2] the consumer
-- Returns how many entries it leaves behind, at most 100 counted.
redis.call('ZREM', KEYS[2], ARGV[2])
local held = #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 100, ARGV[2])
if held == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
return held
