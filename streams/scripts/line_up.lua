-- Give turns places in the lines of their sessions, each behind all that are there, and say where they stand.
--
-- KEYS[1] the partition's sessions (sorted set: session ids by when a turn came last)
-- KEYS[2+] for each turn its session's line (sorted set: run ids by when they came)
-- ARGV[1] ms for which all this is kept   ARGV[2] how many turns a line takes, 0 for any number
-- ARGV[3] how many sessions are listed    then for each turn: session, run ('' only looks at the line)
-- Returns for each turn {place, ms it waits, who is first or '', ms that one waits}. The first place is 0; -1 is none,
-- where the line is full or nobody was to get one.
--
-- Times are microseconds by this server's clock, but never before those that are there: a clock may be put back, and
-- turns may come in the same moment.
local call = redis.call
local keep, room, listed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local results = {}

local function waits(since)
  return since and math.max(0, math.floor((now - since) / 1000)) or 0
end

for i = 2, #KEYS do
  local line, session, run = KEYS[i], ARGV[2 * i], ARGV[2 * i + 1]
  local since = run ~= '' and call('ZSCORE', line, run)
  if run ~= '' then
    if not since and (room == 0 or call('ZCARD', line) < room) then
      local last = call('ZREVRANGE', line, 0, 0, 'WITHSCORES')[2]
      since = math.max(now, last and last + 1 or 0)
      call('ZADD', line, string.format('%.0f', since), run)
    end
    if since then
      call('PEXPIRE', line, keep)
      call('ZADD', KEYS[1], string.format('%.0f', now), session)
    end
  end
  local first = call('ZRANGE', line, 0, 0, 'WITHSCORES')
  results[#results + 1] = {since and call('ZRANK', line, run) or -1, waits(since), first[1] or '', waits(first[2])}
end

call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - keep * 1000))
call('ZREMRANGEBYRANK', KEYS[1], 0, -listed - 1)
return results
