-- Take dead letters away, each once, with an entry in its place or none, and a line in the audit.
--
-- KEYS[1] the dead letters (stream)   KEYS[2] the audit (stream)   KEYS[3+] streams that entries go to
-- ARGV for each letter: id, its line in the audit as JSON with the text "ENTRY" first where the new entry's id belongs,
-- key index of the stream it goes to or 0, number of the new entry's fields and values, these
-- Returns for each letter 1, or 0 where it was not there any more.
--
-- So the letter and its entry are never both there nor both gone, whenever who calls this is killed. The first write is
-- one that a full server refuses, and then nothing is done.
local call = redis.call
local AUDITED = 100000

for i = 1, #KEYS do
  local kind = call('TYPE', KEYS[i]).ok
  if kind ~= 'stream' and kind ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' should be a stream, and is a ' .. kind)
  end
end

local results, at = {}, 1
while at <= #ARGV do
  local id, audit, place, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local first = at + 4
  at = first + count
  local there = #call('XRANGE', KEYS[1], id, id) > 0
  if there then
    local entry = place > 0 and call('XADD', KEYS[place], '*', unpack(ARGV, first, at - 1)) or ''
    audit = string.gsub(audit, 'ENTRY', entry, 1)
    call('XADD', KEYS[2], 'MAXLEN', '~', AUDITED, '*', 'type', 'Audit', 'event', audit)
    call('XDEL', KEYS[1], id)
  end
  results[#results + 1] = there and 1 or 0
end
return results
