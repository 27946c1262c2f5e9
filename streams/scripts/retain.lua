-- Remove from a stream what is too old or too much, but nothing that a group has still to acknowledge.
--
-- KEYS[1] the stream
-- ARGV[1] ms for which entries are kept, 0 for ever   ARGV[2] how many are kept   ARGV[3] how many to remove at most
-- ARGV[4+] the groups that count; one that does not exist has acknowledged nothing, or with a ? before its name does
-- not count
-- Returns {number removed, 1 if there may be more to remove, the group that keeps more than there should be or '',
-- length now}.
--
-- The server trims whole nodes (100 entries or 4 KB) without looking into them, so removing thousands is fast;
-- age is then made exact within one node, length stays up to a node more. No command here needs memory: a full server
-- takes it.
local call = redis.call
local stream, keep, most, limit = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local LAST = '18446744073709551615-18446744073709551615'

-- Ids are compared as text: their numbers have up to 64 bits, Lua's only 53.
local function less(a, b)
  local a_time, a_count = string.match(a, '(%d+)%-(%d+)')
  local b_time, b_count = string.match(b, '(%d+)%-(%d+)')
  if a_time == b_time then
    a_time, b_time = a_count, b_count
  end
  return #a_time < #b_time or (#a_time == #b_time and a_time < b_time)
end

local function next_id(id)
  local time, count = string.match(id, '(%d+)%-(%d+)')
  return #count < 15 and string.format('%s-%.0f', time, count + 1) or id
end

local size = call('XLEN', stream)
if size == 0 then
  return {0, 0, '', 0}
end

local found = {}
for _, flat in ipairs(#ARGV > 3 and call('XINFO', 'GROUPS', stream) or {}) do
  local group = {}
  for i = 1, #flat, 2 do
    group[flat[i]] = flat[i + 1]
  end
  found[group.name] = group
end

-- Everything below the floor is acknowledged by all groups.
local floor, holder = LAST, ''
for i = 4, #ARGV do
  local name, may_lack = string.gsub(ARGV[i], '^%?', '')
  local group, first = found[name], may_lack > 0 and floor or '0-0'
  if group then
    first = next_id(group['last-delivered-id'])
    local pending = group.pending > 0 and call('XPENDING', stream, name)[2]
    if pending and less(pending, first) then
      first = pending
    end
  end
  if less(first, floor) then
    floor, holder = first, name
  end
end

local old, removed, more = '0-0', 0, 0
if keep > 0 then
  local time = call('TIME')
  old = string.format('%.0f-0', math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - keep))
  local min = less(floor, old) and floor or old
  removed = call('XTRIM', stream, 'MINID', '~', min, 'LIMIT', limit)
  if removed > 0 then
    more = 1
  else
    removed = call('XTRIM', stream, 'MINID', '=', min) -- the rest lies in the first node
  end
end

local excess = math.min(size - removed - most, limit - removed)
if excess > 0 then
  local trimmed = call('XTRIM', stream, 'MINID', '~', floor, 'LIMIT', excess)
  removed = removed + trimmed
  more = trimmed > 0 and 1 or more
end

size = size - removed
local first = size > 0 and call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1] or floor
local held = size > 0 and not less(first, floor) and (size > most or less(first, old))
return {removed, more, held and holder or '', size}
