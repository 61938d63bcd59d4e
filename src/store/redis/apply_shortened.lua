-- Follows upon re-arming users to deadlines that were read before: puts right whose came nearer since, or whose
-- grant changed.
--
-- KEYS[1] the deadline index            ARGV[1] when the first of them was read, or before, in ms
-- KEYS[2] deadlines that came nearer    ARGV[2] how long these are noted, in ms
-- KEYS[3] the held departures
-- KEYS[4] where the recheck is

local time = redis.call('TIME')
local age = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
if age > ARGV[2] - 0 or age < -100 then
  -- Too late to know what came nearer, or the clock was set back: a recheck looks at everyone.
  redis.call('SET', KEYS[4], '0')
end
-- Every change of a user's grant is noted, so the last note of a user has the one that counts.
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], ARGV[1], '+')) do
  local user, noted = unpack(entry[2])
  local score = redis.call('ZSCORE', KEYS[1], user)
  -- The time of a held departure is the end of that.
  if score and not redis.call('ZSCORE', KEYS[3], user) then
    local amended = math.min(math.floor(score), math.floor(noted)) + noted % 1
    redis.call('ZADD', KEYS[1], 'XX', amended, user)
  end
end
