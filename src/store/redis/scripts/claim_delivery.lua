-- Claims the lease of a receiver.
--
-- KEYS[1] the delivery of the receiver   ARGV[1] the holder
--                                        ARGV[2] the length of the lease, in ms
--                                        ARGV[3] the first position of a new receiver, or ''
-- Returns {} for a new receiver without a position; {'held', position, remaining time of the lease in ms} if another
-- holder has the lease; else {'granted', position, batch or '', failed attempts, time until the next attempt in ms}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local length = tonumber(ARGV[2])

local read = redis.call('HMGET', KEYS[1], 'cursor', 'holder', 'until', 'batch', 'attempts', 'retry', 'pause')
local cursor, holder, ends, batch, attempts, retry, longest = unpack(read)
if not cursor then
  if ARGV[3] == '' then
    return {}
  end
  cursor = ARGV[3]
end

-- A lease never ends later than this. If the clock was set back, an old lease is over.
local remaining = tonumber(ends or 0) - now
if holder and holder ~= ARGV[1] and remaining > 0 and remaining <= length then
  return { 'held', cursor, remaining }
end

redis.call('HSET', KEYS[1], 'cursor', cursor, 'holder', ARGV[1], 'until', string.format('%.0f', now + length))
-- The rest of a pause is never longer than the whole pause. If the clock was set back, the pause is over.
local pause = tonumber(retry or 0) - now
if pause < 0 or pause > tonumber(longest or 0) then
  pause = 0
end
return { 'granted', cursor, batch or '', tonumber(attempts or 0), pause }
