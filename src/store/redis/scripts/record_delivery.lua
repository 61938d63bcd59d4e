-- Writes where the delivery to a receiver stands, if the caller has the lease, and extends the lease.
--
-- KEYS[1] the delivery of the receiver   ARGV[1] the holder
--                                        ARGV[2] the length of the lease, in ms
--                                        ARGV[3] the position
--                                        ARGV[4] the batch, or ''
--                                        ARGV[5] the failed attempts
--                                        ARGV[6] the time until the next attempt, in ms
-- Returns 1, or 0 if another holder has the lease.

if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function at(pause)
  return string.format('%.0f', now + tonumber(pause))
end
redis.call(
  'HSET', KEYS[1], 'cursor', ARGV[3], 'until', at(ARGV[2]), 'batch', ARGV[4], 'attempts', ARGV[5],
  'retry', at(ARGV[6]), 'pause', ARGV[6]
)
return 1
