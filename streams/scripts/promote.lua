-- Put delayed entries that are due back on their stream.
--
-- KEYS[1] delayed entries (sorted set: "<entry id> [type, event, attempt, history, arrived]" by due ms)
-- KEYS[2] the stream   KEYS[3] the dead letters (stream)
-- ARGV[1] how many at most   ARGV[2] the dead letter, as JSON, of what is no such entry, its `event` left to be filled
-- Returns how many were put back or given up.
local now = redis.call('TIME')
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now[1] * 1000 + math.floor(now[2] / 1000), 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  local read, entry = pcall(cjson.decode, string.match(member, '^%S+ (.*)$') or '')
  if read and type(entry) == 'table' and type(entry[1]) == 'string' and type(entry[2]) == 'string' then
    redis.call('XADD', KEYS[2], '*', 'type', entry[1], 'event', entry[2], 'attempt', tostring(entry[3] or 1),
      'history', tostring(entry[4] or '[]'), 'arrived', tostring(entry[5] or ''))
  else
    local letter = cjson.decode(ARGV[2])
    letter.event = member
    redis.call('XADD', KEYS[3], '*', 'type', 'DeadLetter', 'event', cjson.encode(letter))
  end
  redis.call('ZREM', KEYS[1], member)
end
return #due
