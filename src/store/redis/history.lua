-- Reads the history after one event.
--
-- ARGV[5] the id of that event      ARGV[6] how many events at most
-- Returns {epoch, newest event, the entries}.

local known = epoch()
return { known, newest(), redis.call('XRANGE', KEYS[2], '(' .. ARGV[5], '+', 'COUNT', ARGV[6]) }
