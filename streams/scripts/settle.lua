-- Settle a batch of handled entries: for each, all that its outcome changes, or nothing.
--
-- KEYS[1]   the stage's stream             KEYS[2]  its delayed entries (sorted set)
-- KEYS[3]   the dead letters (stream)      KEYS[4+] output streams, then run hashes, journals and budgets
-- ARGV[1]   the consumer group   ARGV[2]  ms for which the keys of an ended run stay
-- ARGV[3]   how many of the keys are streams, KEYS[2] counted in
-- ARGV[4]   the group of who follows all streams
-- then for each entry:
--   id, kind, key index of the run hash (its journal and budget follow) if this ends the run, else 0,
--   number of outputs, number of records, the outputs as (key index, type, event),
--   if there are records: key index of the journal, the records as (field, record), then by kind
--   "ack"    nothing more
--   "state"  key index of the run hash, field, expected version, new version, new state
--   "retry"  delay in ms, the entry as JSON [type, event, attempt, history]
--   "dead"   the dead letter as JSON
--
-- Returns for each entry: 1 settled; 0 no longer pending, somebody else settled it; -1 the state has changed; -2 one of
-- the effects has a record already.
--
-- XACK's answer decides: of two workers holding one entry after a reclaim, the second changes nothing. State and records
-- are checked before it, because an acknowledgement can't be taken back; and pending before those, because a repeat of
-- a settlement whose reply was lost must not look like a conflict. The streams' types are checked before anything, since
-- an append that fails after the acknowledgement would lose its event.
local call, pcall = redis.call, redis.pcall
local source, group = KEYS[1], ARGV[1]
local more = {ack = 0, state = 5, retry = 2, dead = 1}
local results, at, size = {}, 5, #ARGV

for i = 1, tonumber(ARGV[3]) do
  local kind = call('TYPE', KEYS[i]).ok
  local wanted = i == 2 and 'zset' or 'stream'
  if kind ~= wanted and kind ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' should be a ' .. wanted .. ', and is a ' .. kind)
  end
end

-- Whether nothing speaks against it; also where somebody made a key something else: the handler is to meet that.
local function conflict(kind, records, journal, rest)
  for i = journal + 1, journal + 2 * records, 2 do
    if pcall('HGET', KEYS[tonumber(ARGV[journal])], ARGV[i]) then
      return -2
    end
  end
  if kind == 'state' then
    local version = pcall('HGET', KEYS[tonumber(ARGV[rest])], ARGV[rest + 1] .. '.v') or '0'
    return version ~= ARGV[rest + 2] and -1
  end
end

-- Whether somebody follows a stream, and so all: whoever archives an ended run's journal is who lets it go.
local function followed(stream)
  for _, group in ipairs(call('XINFO', 'GROUPS', stream)) do
    for i = 1, #group, 2 do
      if group[i] == 'name' and group[i + 1] == ARGV[4] then
        return true
      end
    end
  end
  return false
end

while at <= size do
  local id, kind, ends = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local count, records = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local outputs = at + 5
  local journal = outputs + 3 * count
  local rest = journal + (records > 0 and 1 + 2 * records or 0)
  local result

  if records > 0 or kind == 'state' then
    result = #call('XPENDING', source, group, id, id, 1) == 0 and 0 or conflict(kind, records, journal, rest)
  end
  if not result then
    result = call('XACK', source, group, id)
  end
  if result == 1 then
    for i = outputs, journal - 1, 3 do
      call('XADD', KEYS[tonumber(ARGV[i])], '*', 'type', ARGV[i + 1], 'event', ARGV[i + 2])
    end
    if records > 0 then
      call('HSET', KEYS[tonumber(ARGV[journal])], unpack(ARGV, journal + 1, rest - 1))
    end
    if kind == 'state' then
      call('HSET', KEYS[tonumber(ARGV[rest])], ARGV[rest + 1] .. '.v', ARGV[rest + 3], ARGV[rest + 1], ARGV[rest + 4])
    elseif kind == 'retry' then
      local now = call('TIME')
      call('ZADD', KEYS[2], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[rest], id .. ' ' .. ARGV[rest + 1])
    elseif kind == 'dead' then
      call('XADD', KEYS[3], '*', 'type', 'DeadLetter', 'event', ARGV[rest])
    end
    if ends > 0 then
      for i = ends, ends + 2 do
        if i ~= ends + 1 or not followed(KEYS[tonumber(ARGV[outputs])]) then
          call('PEXPIRE', KEYS[i], ARGV[2])
        end
      end
    end
  end
  results[#results + 1] = result
  at = rest + more[kind]
end
return results
