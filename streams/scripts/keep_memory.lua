-- Write what a session's memory of a project has become by an exchange, if that exchange is still to be considered.
--
-- KEYS[1] the session's memory (hash: `due:<run>` for each exchange to be considered, `of:<project>` items as JSON)
-- ARGV[1] the exchange's field   ARGV[2] the project's field   ARGV[3] the items as they were, '' for none
-- ARGV[4] the items as they are to be   ARGV[5] ms for which all is kept
-- Returns 1 written; 0 it was considered before, or the session was cleared; -1 the items have changed meanwhile.
--
-- The exchange's field goes with the write, so that one that is considered twice, or after it was forgotten, changes nothing.
local call = redis.call
if call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 0
end
if (call('HGET', KEYS[1], ARGV[2]) or '') ~= ARGV[3] then
  return -1
end
call('HSET', KEYS[1], ARGV[2], ARGV[4])
call('HDEL', KEYS[1], ARGV[1])
call('PEXPIRE', KEYS[1], ARGV[5])
return 1
