-- Keep a record of a project's collection, or remove one.
--
-- KEYS[1] records by id (hash)   KEYS[2] their ids by time in ms (sorted set)
-- ARGV[1] 'add', if there is none with its id; 'replace', if there is one; 'remove'
-- ARGV[2] id   and but for 'remove' ARGV[3] time in ms   ARGV[4] JSON   ARGV[5] how many there may be
-- Returns 1 done, 0 there is one already, or none, -1 full
if ARGV[1] == 'remove' then
  redis.call('ZREM', KEYS[2], ARGV[2])
  return redis.call('HDEL', KEYS[1], ARGV[2])
end
if (redis.call('HEXISTS', KEYS[1], ARGV[2]) == 1) ~= (ARGV[1] == 'replace') then
  return 0
end
if ARGV[1] == 'add' and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then
  return -1
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
return 1
