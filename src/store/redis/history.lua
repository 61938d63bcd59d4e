-- Reads the events after one event. The first read from a new master of a cluster appends an entry before.
--
-- KEYS[6] the run id of the last master      ARGV[5] the id of the event      ARGV[6] the maximum number of events
--                                            ARGV[7] the run id of the master, or '' without a cluster
-- Returns {epoch, newest event, the entries}.
--
-- A frozen master that was replaced runs old calls when it continues, before it learns of its replacement. The new master
-- passes the messages of these calls on. An instance reads the history before it follows the messages of a new master, so
-- it knows the appended entry then, which such a message does not have as its predecessor.

local known = epoch()
if ARGV[7] ~= '' then
  local master = redis.call('GET', KEYS[6])
  if master ~= ARGV[7] then
    if master then
      append_mark(clock())
    end
    redis.call('SET', KEYS[6], ARGV[7])
  end
end
return { known, newest(), redis.call('XRANGE', KEYS[2], '(' .. ARGV[5], '+', 'COUNT', ARGV[6]) }
