-- Settle a batch of handled entries: for each, all that its outcome changes, or nothing.
--
-- KEYS[1]   the stage's stream             KEYS[2]  its delayed entries (sorted set)
-- KEYS[3]   the dead letters (stream)      KEYS[4+] output streams, then run hashes and journals
-- ARGV[1]   the consumer group   ARGV[2]  ms for which the keys of an ended run stay
-- ARGV[3]   how many of the keys are streams, KEYS[2] counted in
-- then for each entry:
--   id, kind, key index of the run hash (its journal follows) if this ends the run, else 0, count,
--   then `count` outputs of (key index, type, event), then by kind
--   "ack"    nothing more
--   "state"  key index of the run hash, field, expected version, new version, new state
--   "retry"  delay in ms, the entry as JSON [type, event, attempt, history]
--   "dead"   the dead letter as JSON
--
-- Returns for each entry: 1 settled; 0 no longer pending, somebody else settled it; -1 the state has changed.
--
-- XACK's answer decides: of two workers holding one entry after a reclaim, the second changes nothing. State is checked
-- before it, because an acknowledgement can't be taken back; and pending before state, because a repeat of a settlement
-- whose reply was lost must not look like a conflict. The streams' types are checked before anything, since an append
-- that fails after the acknowledgement would lose its event.
local call = redis.call
local source, group = KEYS[1], ARGV[1]
local results, at, size = {}, 4, #ARGV

for i = 1, tonumber(ARGV[3]) do
  local kind = call('TYPE', KEYS[i]).ok
  local wanted = i == 2 and 'zset' or 'stream'
  if kind ~= wanted and kind ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' should be a ' .. wanted .. ', and is a ' .. kind)
  end
end

while at <= size do
  local id, kind, ends, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local outputs = at + 4
  local rest = outputs + 3 * count
  local result

  if kind == 'ack' then
    result = call('XACK', source, group, id)
    at = rest
  elseif kind == 'state' then
    local run, field = KEYS[tonumber(ARGV[rest])], ARGV[rest + 1]
    if #call('XPENDING', source, group, id, id, 1) == 0 then
      result = 0
    elseif (redis.pcall('HGET', run, field .. '.v') or '0') ~= ARGV[rest + 2] then
      result = -1 -- also where somebody made the run something else: its handler is to meet that
    else
      call('XACK', source, group, id)
      call('HSET', run, field .. '.v', ARGV[rest + 3], field, ARGV[rest + 4])
      result = 1
    end
    at = rest + 5
  elseif kind == 'retry' then
    result = call('XACK', source, group, id)
    if result == 1 then
      local now = call('TIME')
      call('ZADD', KEYS[2], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[rest], id .. ' ' .. ARGV[rest + 1])
    end
    at = rest + 2
  else
    result = call('XACK', source, group, id)
    if result == 1 then
      call('XADD', KEYS[3], '*', 'type', 'DeadLetter', 'event', ARGV[rest])
    end
    at = rest + 1
  end

  if result == 1 then
    for i = outputs, outputs + 3 * count - 1, 3 do
      call('XADD', KEYS[tonumber(ARGV[i])], '*', 'type', ARGV[i + 1], 'event', ARGV[i + 2])
    end
    if ends > 0 then
      call('PEXPIRE', KEYS[ends], ARGV[2])
      call('PEXPIRE', KEYS[ends + 1], ARGV[2])
    end
  end
  results[#results + 1] = result
end
return results
