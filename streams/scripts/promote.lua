-- Put delayed entries that are due back on their stream.
--
-- KEYS[1] delayed entries (sorted set: "<entry id> [type, event, attempt, history]" by due ms)   KEYS[2] the stream
-- ARGV[1] how many at most
-- Returns how many were put back.
local now = redis.call('TIME')
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now[1] * 1000 + math.floor(now[2] / 1000), 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  local entry = cjson.decode(string.sub(member, string.find(member, ' ', 1, true) + 1))
  redis.call('XADD', KEYS[2], '*', 'type', entry[1], 'event', entry[2], 'attempt', entry[3], 'history', entry[4])
  redis.call('ZREM', KEYS[1], member)
end
return #due
