-- Append events, each unless it was appended before, so that a publisher whose connection broke may simply try again;
-- and unless too many entries wait for a group of the stream already.
--
-- KEYS[1] the stream   KEYS[2] what was counted (hash that expires)   KEYS[3+] for each event its marker (hash)
-- ARGV[1] the markers' field; beside it, as FIELD.at, is the entry's id   ARGV[2] seconds a marker lives, 0 for ever
-- ARGV[3] how many entries may wait, 0 for any number   ARGV[4] number of groups, then their names
-- then for each event: type, event
-- Returns for each event: 1 appended; 0 it was there already; -n refused, because n entries wait.
--
-- The first write is one that a full server refuses, and in a script it refuses only the first: all is done or nothing.
local call = redis.call
local stream, field, ttl, limit, groups = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local PART = 1000
local counting = false

local function named(flat)
  local found = {}
  for i = 1, #flat, 2 do
    found[flat[i]] = flat[i + 1]
  end
  return found
end

-- Undelivered entries where the server does not know: after somebody deleted entries or moved the group. To count is
-- slow, about 1 us an entry, so a count is used for a while, and what is appended meanwhile added to it.
local function counted(group)
  if group['entries-read'] then
    local most = named(call('XINFO', 'STREAM', stream))['entries-added'] - group['entries-read']
    if most + #KEYS < limit then
      return most
    end
  end
  counting = true
  local known = call('HGET', KEYS[2], group.name)
  if known then
    return tonumber(known)
  end
  local count, id = 0, group['last-delivered-id']
  while count < limit do
    local part = call('XRANGE', stream, '(' .. id, '+', 'COUNT', math.min(PART, limit - count))
    if #part == 0 then
      break
    end
    count, id = count + #part, part[#part][1]
  end
  call('HSET', KEYS[2], group.name, count)
  call('PEXPIRE', KEYS[2], 1000 + math.floor(count / 20))
  return count
end

-- Entries that the slowest of the groups has not acknowledged; exact up to the limit.
local function waiting()
  local size, most, found = call('XLEN', stream), 0, {}
  if limit == 0 or size + #KEYS - 2 <= limit then
    return -math.huge -- however they stand, all of these events fit
  end
  for _, flat in ipairs(size > 0 and call('XINFO', 'GROUPS', stream) or {}) do
    local group = named(flat)
    found[group.name] = group
  end
  for i = 5, 4 + groups do
    local group, wait = found[ARGV[i]], size
    if group then
      wait = group.pending + math.min(size, group.lag or counted(group))
    end
    most = math.max(most, wait)
  end
  return most
end

local wait, results, appended = waiting(), {}, 0
for i = 3, #KEYS do
  local at = 5 + groups + 2 * (i - 3)
  local name, event = ARGV[at], ARGV[at + 1]
  if call('HEXISTS', KEYS[i], field) == 1 then
    results[#results + 1] = 0
  elseif limit > 0 and wait >= limit then
    results[#results + 1] = -wait
  else
    call('HSET', KEYS[i], field, event)
    if ttl ~= '0' then
      call('EXPIRE', KEYS[i], ttl)
    end
    call('HSET', KEYS[i], field .. '.at', call('XADD', stream, '*', 'type', name, 'event', event))
    wait, appended = wait + 1, appended + 1
    results[#results + 1] = 1
  end
end
if counting and appended > 0 then
  for _, group in ipairs(call('HKEYS', KEYS[2])) do
    call('HINCRBY', KEYS[2], group, appended)
  end
end
return results
