-- Append events, each unless it was appended before, so that a publisher whose connection broke may simply try again;
-- and unless too many entries wait for a group of the stream already.
--
-- KEYS[1] the stream   KEYS[2+] for each event its marker (hash)
-- ARGV[1] the markers' field   ARGV[2] seconds a marker lives, 0 for ever
-- ARGV[3] how many entries may wait, 0 for any number   ARGV[4] number of groups, then their names
-- then for each event: type, event
-- Returns for each event: 1 appended; 0 it was there already; -n refused, because n entries wait.
--
-- The first write is one that a full server refuses, and in a script it refuses only the first: all is done or nothing.
local call = redis.call
local stream, field, ttl, limit, groups = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local PART = 1000

-- Entries after an id, counted up to `enough`, a part at a time.
local function after(id, enough)
  local counted = 0
  while counted < enough do
    local part = call('XRANGE', stream, '(' .. id, '+', 'COUNT', math.min(PART, enough - counted))
    if #part == 0 then
      break
    end
    counted, id = counted + #part, part[#part][1]
  end
  return counted
end

-- Entries that the slowest of the groups has not acknowledged; exact up to the limit.
local function waiting()
  local size, most, found = call('XLEN', stream), 0, {}
  if limit == 0 or size + #KEYS - 1 <= limit then
    return -math.huge -- however they stand, all of these events fit
  end
  for _, flat in ipairs(size > 0 and call('XINFO', 'GROUPS', stream) or {}) do
    local group = {}
    for i = 1, #flat, 2 do
      group[flat[i]] = flat[i + 1]
    end
    found[group.name] = group
  end
  for i = 5, 4 + groups do
    local group, wait = found[ARGV[i]], size
    if group then
      -- After a deletion the server may not know the lag.
      wait = group.pending + math.min(size, group.lag or after(group['last-delivered-id'], limit - group.pending))
    end
    most = math.max(most, wait)
  end
  return most
end

local wait, results = waiting(), {}
for i = 2, #KEYS do
  local at = 5 + groups + 2 * (i - 2)
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
    call('XADD', stream, '*', 'type', name, 'event', event)
    wait = wait + 1
    results[#results + 1] = 1
  end
end
return results
