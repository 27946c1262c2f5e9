-- End a run's turn: take it out of its session's line and keep what was said. The same run's second time changes nothing.
--
-- KEYS[1] the line (sorted set)   KEYS[2] what was said (list)   KEYS[3] the session (hash)
-- KEYS[4] the session's memory (hash): what is kept is to be considered for it
-- ARGV[1] the run   ARGV[2] what was said, as JSON, '' for nothing   ARGV[3] how that of this run begins
-- ARGV[4] the expert who had the turn, '' to leave that as it is   ARGV[5] how much is kept   ARGV[6] ms for which
-- Returns 1 if something was kept.
--
-- What was said is looked through as well: a run that came back into the line after its end is not kept twice. A turn
-- that came before the session was cleared leaves nothing.
local call = redis.call
local line, said, session, begins = KEYS[1], KEYS[2], KEYS[3], ARGV[3]
local since = call('ZSCORE', line, ARGV[1])
if not since then
  return 0
end
local cleared = call('HGET', session, 'cleared')
call('ZREM', line, ARGV[1])
if cleared and call('EXISTS', line) == 0 then
  call('HDEL', session, 'cleared')
end
if ARGV[2] == '' or (cleared and tonumber(since) <= tonumber(cleared)) then
  return 0
end
for _, exchange in ipairs(call('LRANGE', said, 0, -1)) do
  if string.sub(exchange, 1, #begins) == begins then
    return 0
  end
end
call('RPUSH', said, ARGV[2])
call('LTRIM', said, -ARGV[5], -1)
call('PEXPIRE', said, ARGV[6])
if ARGV[4] ~= '' then
  call('HSET', session, 'expert', ARGV[4])
end
call('PEXPIRE', session, ARGV[6])
call('HSET', KEYS[4], 'due:' .. ARGV[1], '')
call('PEXPIRE', KEYS[4], ARGV[6])
return 1
