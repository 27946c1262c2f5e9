#!lua flags=allow-oom
-- Say what an inference consumer offers, and remove what others said that holds no longer. Also on a server that is full:
-- without offers nothing would be asked that could end.
--
-- KEYS[1] offers (hash)   ARGV[1] the consumer   ARGV[2] ms for which the offer holds, 0 to withdraw it   ARGV[3] JSON
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if (tonumber(string.match(all[i + 1], '^%d+')) or 0) < now then
    redis.call('HDEL', KEYS[1], all[i])
  end
end
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%d:%s', now + ARGV[2], ARGV[3]))
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  end
end
return 1
