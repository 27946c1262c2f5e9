#!lua flags=allow-oom
-- Say that a consumer is alive. Its entries can't be reclaimed before the lease ends. Also on a server that is full:
-- else workers would take each other for dead just when all wait.
--
-- KEYS[1] leases (sorted set)   ARGV[1] the consumer   ARGV[2] ms from now
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2], ARGV[1])
return 1
