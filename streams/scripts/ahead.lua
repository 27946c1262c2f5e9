-- In which of some lines a run stands, and how many entries a group has still to be given before it comes to the run's.
--
-- KEYS    the streams   ARGV[1] the run's id   ARGV[2] how many entries of each to look through at most
-- ARGV[3+] the group of each stream
-- Returns the first stream's number where one of the run's waits to be given, and that many; 0, 0 where none does.
--
-- A run's id stands unescaped in its envelope's own field only: within any text the quotes around it would be escaped.
local call = redis.call
local mark, most = '"run":"' .. ARGV[1] .. '"', tonumber(ARGV[2])
local PART = 100

local function delivered(stream, group)
  for _, flat in ipairs(call('XINFO', 'GROUPS', stream)) do
    local found = {}
    for i = 1, #flat, 2 do
      found[flat[i]] = flat[i + 1]
    end
    if found.name == group then
      return found['last-delivered-id']
    end
  end
  return '0-0'
end

local function ahead(stream, group)
  if call('EXISTS', stream) == 0 then
    return nil
  end
  local count, id = 0, delivered(stream, group)
  while count < most do
    local part = call('XRANGE', stream, '(' .. id, '+', 'COUNT', math.min(PART, most - count))
    if #part == 0 then
      return nil
    end
    for place, entry in ipairs(part) do
      for _, value in ipairs(entry[2]) do
        if string.find(value, mark, 1, true) then
          return count + place - 1
        end
      end
    end
    count, id = count + #part, part[#part][1]
  end
  return count
end

local line, before = 0, 0
for i, stream in ipairs(KEYS) do
  local count = ahead(stream, ARGV[2 + i])
  if count and (count < most or line == 0) then
    line, before = i, count
    if count < most then
      break
    end
  end
end
return {line, before}
