-- Settle a batch of handled entries: for each, all that its outcome changes, or nothing.
--
-- KEYS[1]   the stage's stream             KEYS[2]  its delayed entries (sorted set)
-- KEYS[3]   the dead letters (stream)      KEYS[4+] output streams and run hashes, named below by their index
-- ARGV[1]   the consumer group
-- then for each entry:
--   id, kind, count, then `count` outputs of (key index, type, event), then by kind
--   "ack"    nothing more
--   "state"  key index of the run hash, field, expected version, new version, new state
--   "retry"  delay in ms, the entry as JSON [type, event, attempt]
--   "dead"   the dead letter as JSON
--
-- Returns for each entry: 1 settled; 0 no longer pending, somebody else settled it; -1 the state has changed.
--
-- XACK's answer decides: of two workers holding one entry after a reclaim, the second changes nothing. State is checked
-- before it, because an acknowledgement can't be taken back; and pending before state, because a repeat of a settlement
-- whose reply was lost must not look like a conflict.
local call = redis.call
local source, group = KEYS[1], ARGV[1]
local results, at, size = {}, 2, #ARGV

while at <= size do
  local id, kind, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local outputs = at + 3
  local rest = outputs + 3 * count
  local result

  if kind == 'state' then
    local run, field = KEYS[tonumber(ARGV[rest])], ARGV[rest + 1]
    if #call('XPENDING', source, group, id, id, 1) == 0 then
      result = 0
    elseif (call('HGET', run, field .. '.v') or '0') ~= ARGV[rest + 2] then
      result = -1
    else
      call('XACK', source, group, id)
      call('HSET', run, field .. '.v', ARGV[rest + 3], field, ARGV[rest + 4])
      result = 1
    end
    at = rest + 5
  else
    result = call('XACK', source, group, id)
    if kind == 'retry' then
      if result == 1 then
        local now = call('TIME')
        call('ZADD', KEYS[2], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[rest], id .. ' ' .. ARGV[rest + 1])
      end
      at = rest + 2
    elseif kind == 'dead' then
      if result == 1 then
        call('XADD', KEYS[3], '*', 'type', 'DeadLetter', 'event', ARGV[rest])
      end
      at = rest + 1
    else
      at = rest
    end
  end

  if result == 1 then
    for i = outputs, rest - 1, 3 do
      call('XADD', KEYS[tonumber(ARGV[i])], '*', 'type', ARGV[i + 1], 'event', ARGV[i + 2])
    end
  end
  results[#results + 1] = result
end
return results
