-- Append an event unless it was appended before, so that a publisher whose connection broke may simply try again.
--
-- KEYS[1] marker (hash)   KEYS[2] the stream
-- ARGV[1] the marker's field   ARGV[2] type   ARGV[3] event   ARGV[4] seconds the marker lives, 0 for ever
-- Returns 1 appended, 0 it was there already.
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[3]) == 0 then
  return 0
end
if ARGV[4] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
redis.call('XADD', KEYS[2], '*', 'type', ARGV[2], 'event', ARGV[3])
return 1
