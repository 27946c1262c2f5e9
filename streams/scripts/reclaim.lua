-- Take over entries of dead consumers: those of the group that hold no lease, or one that ended.
--
-- KEYS[1] the stream   KEYS[2] leases   KEYS[3] the dead letters (stream)
-- ARGV[1] the group   ARGV[2] who claims   ARGV[3] how many at most   ARGV[4] dead letter of a lost entry, as JSON with
-- the text "ENTRY" where its id belongs
-- Returns {entries, how often each was delivered before, number of lost entries}.
--
-- A claim by lease and not by idle time, so that long work needs no touching of every entry, and a worker that was
-- paused and wakes up finds its entries elsewhere (its settlements then change nothing). Entries whose payload was
-- deleted can't be claimed; the server forgets them here, so they must be written down here.
local call = redis.call
local stream, group, me, limit = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local entries, deliveries, lost = {}, {}, 0

-- A lease that ended is as good as none; of consumers that never read anything nobody else would remove it.
-- None lasts longer than an hour and a bit: one that seems to was given before the server's clock was put back.
call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. string.format('%.0f', now))
call('ZREMRANGEBYSCORE', KEYS[2], string.format('%.0f', now + 4000000), '+inf')
for _, info in ipairs(call('XINFO', 'CONSUMERS', stream, group)) do
  local name, pending = info[2], info[4]
  if name ~= me and not call('ZSCORE', KEYS[2], name) then
    local taken = 0
    if pending > 0 and #entries < limit then
      for _, row in ipairs(call('XPENDING', stream, group, '-', '+', limit - #entries, name)) do
        taken = taken + 1
        local claimed = call('XCLAIM', stream, group, me, 0, row[1])[1]
        if claimed then
          entries[#entries + 1] = claimed
          deliveries[#deliveries + 1] = row[4]
        else
          call('XACK', stream, group, row[1])
          call('XADD', KEYS[3], '*', 'type', 'DeadLetter', 'event', (string.gsub(ARGV[4], 'ENTRY', row[1])))
          lost = lost + 1
        end
      end
    end
    if taken == pending then
      call('XGROUP', 'DELCONSUMER', stream, group, name)
    end
  end
end
return {entries, deliveries, lost}
