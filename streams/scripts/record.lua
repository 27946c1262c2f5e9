-- Read and write hash fields of one partition, many at once: journals, and runs' states.
--
-- KEYS[1+] hashes
-- ARGV, for each request: key index, value, number of fields, the fields; an empty value reads them, another is written
-- to the one field unless that holds something
-- Returns for each a list of what the fields held before, nil where nothing. Where a key is no hash, an error in its
-- place, so that others' requests don't suffer.
local results, at = {}, 1
while at <= #ARGV do
  local key, value, last = KEYS[tonumber(ARGV[at])], ARGV[at + 1], at + 2 + tonumber(ARGV[at + 2])
  local before = redis.pcall('HMGET', key, unpack(ARGV, at + 3, last))
  if value ~= '' and before[1] == false then
    redis.call('HSET', key, ARGV[last], value)
  end
  results[#results + 1] = before
  at = last + 1
end
return results
