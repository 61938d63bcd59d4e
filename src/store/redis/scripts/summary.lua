-- Reads when a partition was swept, and the ends of its history.
--
-- KEYS[1] the time of the last sweep   KEYS[3] a key that never exists
-- KEYS[2] the history
-- Returns {the time of the last sweep or '', the position of the oldest event or '', the position of the newest event
-- or ''}.

local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
return { redis.call('GET', KEYS[1]) or '', oldest and oldest[1] or '', newest and newest[1] or '' }
