-- Forget a session: what was said, and its expert. Turns that are in its line are taken, and then forgotten as well.
--
-- KEYS[1] the line (sorted set)   KEYS[2] what was said (list)   KEYS[3] the session (hash)
-- KEYS[4] the partition's sessions (sorted set)   KEYS[5] the session's memory (hash)
-- ARGV[1] the session   ARGV[2] ms for which what is left is kept
-- Returns how many exchanges are forgotten.
local call = redis.call
local size = call('LLEN', KEYS[2])
call('DEL', KEYS[2], KEYS[3], KEYS[5])
local last = call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last then
  call('HSET', KEYS[3], 'cleared', last)
  call('PEXPIRE', KEYS[3], ARGV[2])
else
  call('ZREM', KEYS[4], ARGV[1])
end
return size
