-- Reads the position of the newest event. The script has no prelude, because streams run it often, for all partitions.
--
-- KEYS[1] the deadline index    KEYS[3] the epoch
-- KEYS[2] the history           KEYS[4] a key that never exists
-- Returns {epoch, newest event}; nothing if a new data set has to begin, see announce.lua.

local epoch = redis.call('GET', KEYS[3])
if not epoch or not redis.call('ZSCORE', KEYS[1], '') then
  return false
end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
return { epoch, last[1] and last[1][1] or '0-0' }
