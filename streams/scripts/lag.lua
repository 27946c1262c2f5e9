-- What is known of one stage's work on one stream.
--
-- KEYS[1] the stream   KEYS[2] its delayed entries (sorted set)   KEYS[3] the stage's leases (sorted set)
-- ARGV[1] the group   ARGV[2] how many entries to count at most on each side of it   ARGV[3] bytes to look at for that
-- Returns {now in ms, length, entries ever added, the server's own count of undelivered ones or -1,
--   {counted behind the group's place, 1 if these are all}, {counted up to it, 1 if these are all},
--   the first undelivered id, pending, the first pending id, ms since its delivery, the last delivered id,
--   delayed, when the first of them is due in ms or -1, consumers with a lease, pending of those without}.
--
-- An end of the stream that is near tells for certain. Between them the server's count stands where it gives one, but
-- not that of older servers once anything was removed: there it stays too high after a delete or a trim ahead of the
-- group (redis/redis#13958, valkey-io/valkey#1952).
local call = redis.call
local newer, valkey = pcall(function() return server.VALKEY_VERSION_NUM >= 0x090000 end)
local counts_well = newer and valkey or not newer and redis.REDIS_VERSION_NUM >= 0x080200
local stream, name, most, bytes = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local PART = 100

local function named(flat)
  local found = {}
  for i = 1, #flat, 2 do
    found[flat[i]] = flat[i + 1]
  end
  return found
end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
local alive = call('ZCOUNT', KEYS[3], string.format('%.0f', now), '+inf')
local delayed = {call('ZCARD', KEYS[2]), due and math.floor(due) or -1}
if call('EXISTS', stream) == 0 then
  return {now, 0, 0, 0, {0, 1}, {0, 1}, '', 0, '', -1, '0-0', delayed[1], delayed[2], alive, 0}
end

local group = {['last-delivered-id'] = '0-0', pending = 0}
for _, flat in ipairs(call('XINFO', 'GROUPS', stream)) do
  local found = named(flat)
  if found.name == name then
    group = found
  end
end
local place = group['last-delivered-id']
local first = ''

-- How many entries there are from a place on, one way or the other; fewer are looked at where they are large.
local function count(command, from, to)
  local counted, size, part = 0, 0, 10
  while counted < most and size < bytes do
    local found = call(command, stream, from, to, 'COUNT', math.min(part, most - counted))
    for _, entry in ipairs(found) do
      for _, value in ipairs(entry[2]) do
        size = size + #value
      end
    end
    if command == 'XRANGE' and counted == 0 and #found > 0 then
      first = found[1][1]
    end
    counted = counted + #found
    if #found < math.min(part, most - counted + #found) then
      return {counted, 1}
    end
    from, part = '(' .. found[#found][1], size < 100000 and PART or 10
  end
  return {counted, 0}
end

local info = named(call('XINFO', 'STREAM', stream))
local removed = info['entries-added'] > info.length
local lag = (counts_well or not removed) and group.lag or -1
local behind = count('XRANGE', '(' .. place, '+')
local before = {0, 0}
if behind[2] == 0 and first == call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1] then
  before = {0, 1} -- XREVRANGE to before the first entry would walk through all
elseif behind[2] == 0 and lag < 0 then
  before = count('XREVRANGE', place, '-')
end

local pending, idle, lost = '', -1, 0
if group.pending > 0 then
  local row = call('XPENDING', stream, name, '-', '+', 1)[1]
  pending, idle = row[1], row[3]
  for _, flat in ipairs(call('XINFO', 'CONSUMERS', stream, name)) do
    local consumer = named(flat)
    local lease = call('ZSCORE', KEYS[3], consumer.name)
    if not lease or tonumber(lease) < now then
      lost = lost + consumer.pending
    end
  end
end
return {now, info.length, info['entries-added'], lag, behind, before, first, group.pending, pending, idle,
  place, delayed[1], delayed[2], alive, lost}
