-- Reads the history backwards, from the newest event on or before one event.
--
-- ARGV[3] '+', or '(' and the id of that event      ARGV[4] how many events at most
-- Returns {epoch, newest event, the entries, newest first}.

return { epoch(), newest(), redis.call('XREVRANGE', KEYS[2], ARGV[3], '-', 'COUNT', ARGV[4]) }
