-- Reads the history backwards, from the newest event or from the one before an event.
--
-- After announce.lua, which explains KEYS[1] to KEYS[5] and ARGV[1] to ARGV[4].
-- ARGV[5] '+', or '(' and the id of that event      ARGV[6] the maximum number of events
-- Returns {epoch, newest event, the entries, newest first}.

local known = epoch()
return { known, newest(), redis.call('XREVRANGE', KEYS[2], ARGV[5], '-', 'COUNT', ARGV[6]) }
