-- Remove a journal if it holds no more than was seen.
--
-- KEYS[1] the journal (hash)   ARGV[1] how many fields were seen
-- Returns 1 where it is gone, 0 where something came meanwhile.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 1
end
if redis.call('TYPE', KEYS[1]).ok == 'hash' and redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) then
  return 0
end
return redis.call('DEL', KEYS[1])
