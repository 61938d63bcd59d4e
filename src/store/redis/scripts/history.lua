-- Reads the events after one event. The first read from a new master of a cluster first appends an entry.
--
-- After announce.lua, which explains KEYS[1] to KEYS[5] and ARGV[1] to ARGV[4].
-- KEYS[6] the run id of the last master      ARGV[5] the id of the event      ARGV[6] the maximum number of events
--                                            ARGV[7] the run id of the master, or '' without a cluster
-- Returns {epoch, newest event, the entries}.
--
-- The reason is a master that was frozen and replaced. When it continues, it runs old calls before it learns of its
-- replacement, and the new master forwards the messages of these calls. An instance reads the history of a new master
-- before it follows its messages, so it knows the appended entry. A forwarded message names another predecessor, and so
-- the instance recognizes it.

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
