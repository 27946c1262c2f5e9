-- Whose entries a group has still to be given.
--
-- KEYS[1] the stream   ARGV[1] the group   ARGV[2] how many entries to look at, at most   ARGV[3] bytes for that
-- Returns {1 if these are all, else 0, then for each entry, in their order, its run's id; "" where it names none}.
--
-- A run's id stands unescaped in its envelope's own field only: within any text the quotes around it would be escaped.
local call = redis.call
local stream, group, most, bytes = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
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

local found = {1}
if call('EXISTS', stream) == 0 then
  return found
end
local id, size, part = delivered(), 0, 10 -- few to begin with: they may be large
while true do
  local entries = call('XRANGE', stream, '(' .. id, '+', 'COUNT', part)
  for _, entry in ipairs(entries) do
    if #found > most or size >= bytes then
      found[1] = 0
      return found
    end
    for _, value in ipairs(entry[2]) do
      size = size + #value
    end
    found[#found + 1] = run(entry[2])
    id = entry[1]
  end
  if #entries < part then
    return found
  end
  part = size < 100000 and PART or 10
end
