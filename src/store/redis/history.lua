-- Reads the events after one event.
--
-- ARGV[5] the id of that event      ARGV[6] the maximum number of events
-- Returns {epoch, newest event, the entries}.

local known = epoch()
return { known, newest(), redis.call('XRANGE', KEYS[2], '(' .. ARGV[5], '+', 'COUNT', ARGV[6]) }
