-- Put entries on a stream once more, each event once, with a line in the audit.
--
-- KEYS[1] the stream   KEYS[2] what was put on it once more (hash that expires: new entries by event id)
-- KEYS[3] the audit (stream)
-- ARGV[1] ms for which that is known   ARGV[2] 1: also what was put there once more before
-- then for each event: its id, type, event, history, when it arrived in ms, its line in the audit as JSON with the text
-- "ENTRY" first where the new entry's id belongs
-- Returns for each event 1, or 0 where it was put there once more before.
--
-- The first write is one that a full server refuses, and then nothing is done.
local call = redis.call
local AUDITED = 100000

local wanted = {'stream', 'hash', 'stream'}
for i, key in ipairs(KEYS) do
  local kind = call('TYPE', key).ok
  if kind ~= wanted[i] and kind ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. key .. ' should be a ' .. wanted[i] .. ', and is a ' .. kind)
  end
end

local results = {}
for at = 3, #ARGV, 6 do
  local id, audit = ARGV[at], ARGV[at + 5]
  local new = ARGV[2] == '1' or call('HEXISTS', KEYS[2], id) == 0
  if new then
    local entry = call('XADD', KEYS[1], '*', 'type', ARGV[at + 1], 'event', ARGV[at + 2], 'attempt', '1', 'history',
      ARGV[at + 3], 'arrived', ARGV[at + 4])
    call('HSET', KEYS[2], id, entry)
    call('PEXPIRE', KEYS[2], ARGV[1])
    audit = string.gsub(audit, 'ENTRY', entry, 1)
    call('XADD', KEYS[3], 'MAXLEN', '~', AUDITED, '*', 'type', 'Audit', 'event', audit)
  end
  results[#results + 1] = new and 1 or 0
end
return results
