-- How many entries a group has still to be given before it comes to a run's first.
--
-- KEYS[1] the stream   ARGV[1] the group   ARGV[2] the run's id   ARGV[3] how many to look through at most
-- Returns that many, -1 where none of the run's waits to be given.
--
-- A run's id stands unescaped in its envelope's own field only: within any text the quotes around it would be escaped.
local call = redis.call
local stream, group, mark, most = KEYS[1], ARGV[1], '"run":"' .. ARGV[2] .. '"', tonumber(ARGV[3])
local PART = 100

local id = '0-0'
if call('EXISTS', stream) == 0 then
  return -1
end
for _, flat in ipairs(call('XINFO', 'GROUPS', stream)) do
  local found = {}
  for i = 1, #flat, 2 do
    found[flat[i]] = flat[i + 1]
  end
  if found.name == group then
    id = found['last-delivered-id']
  end
end
local ahead = 0
while ahead < most do
  local part = call('XRANGE', stream, '(' .. id, '+', 'COUNT', math.min(PART, most - ahead))
  if #part == 0 then
    return -1
  end
  for place, entry in ipairs(part) do
    for _, value in ipairs(entry[2]) do
      if string.find(value, mark, 1, true) then
        return ahead + place - 1
      end
    end
  end
  ahead, id = ahead + #part, part[#part][1]
end
return ahead
