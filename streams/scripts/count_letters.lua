-- How many dead letters each stage has, among the newest.
--
-- KEYS[1] the dead letters (stream)   ARGV[1] how many to look at   ARGV[2] bytes to look at
-- Returns {letters in all, how many of them were looked at, stage, count, stage, count ...}.
local call = redis.call
local most, bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local PART = 20

local counts, looked, size, to = {}, 0, 0, '+'
while looked < most and size < bytes do
  local found = call('XREVRANGE', KEYS[1], to, '-', 'COUNT', math.min(PART, most - looked))
  for _, entry in ipairs(found) do
    for _, value in ipairs(entry[2]) do
      size = size + #value
      local stage = string.match(value, '^{"stage":"([^"\\]*)"')
      if stage then
        counts[stage] = (counts[stage] or 0) + 1
      end
    end
  end
  looked = looked + #found
  if #found == 0 then
    break
  end
  to = '(' .. found[#found][1]
end
local result = {call('XLEN', KEYS[1]), looked}
for stage, count in pairs(counts) do
  result[#result + 1] = stage
  result[#result + 1] = count
end
return result
