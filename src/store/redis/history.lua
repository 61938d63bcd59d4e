-- Reads the history after one event.
--
-- ARGV[3] the id of that event      ARGV[4] how many events at most
-- Returns {epoch, newest event, the entries}.

return { epoch(), newest(), redis.call('XRANGE', KEYS[2], '(' .. ARGV[3], '+', 'COUNT', ARGV[4]) }
