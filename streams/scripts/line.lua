-- Whose entries a group has still to be given.
--
-- KEYS[1] the stream   ARGV[1] the group   ARGV[2] how many entries to look at, at most
-- Returns for each entry, in their order, its run's id; "" where it names none.
--
-- A run's id stands unescaped in its envelope's own field only: within any text the quotes around it would be escaped.
local call = redis.call
local stream, group, most = KEYS[1], ARGV[1], tonumber(ARGV[2])
local PART = 100

local function delivered()
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

local function run(fields)
  for _, value in ipairs(fields) do
    local found = string.match(value, '"run":"([^"]*)"')
    if found then
      return found
    end
  end
  return ''
end

local runs = {}
if call('EXISTS', stream) == 0 then
  return runs
end
local id = delivered()
while #runs < most do
  local part = call('XRANGE', stream, '(' .. id, '+', 'COUNT', math.min(PART, most - #runs))
  if #part == 0 then
    break
  end
  for _, entry in ipairs(part) do
    runs[#runs + 1] = run(entry[2])
  end
  id = part[#part][1]
end
return runs
