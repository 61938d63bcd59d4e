-- Corrects the index after a sweep wrote deadlines that it read before: applies the deadlines that were shortened
-- since, and changed grants.
--
-- KEYS[1] the deadline index            ARGV[1] a time not after the first read, in ms
-- KEYS[2] the shortened deadlines       ARGV[2] how long a shortened deadline is noted, in ms
-- KEYS[3] the held departures
-- KEYS[4] the place of the recheck
-- KEYS[5] a key that never exists

local time = redis.call('TIME')
local age = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
if age > ARGV[2] - 0 or age < -100 then
  -- Notes are missing, or the clock was set back: a recheck looks at all users.
  redis.call('SET', KEYS[4], '0')
end
-- Every change of the grant is noted, so the last note of a user has the current grant.
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], ARGV[1], '+')) do
  local notes = entry[2]
  for i = 1, #notes, 2 do
    local user, noted = notes[i], notes[i + 1]
    local score = redis.call('ZSCORE', KEYS[1], user)
    -- The score of a user whose departure is held is the end of the hold.
    if score and not redis.call('ZSCORE', KEYS[3], user) then
      local shortened = math.min(math.floor(score), math.floor(noted)) + noted % 1
      redis.call('ZADD', KEYS[1], 'XX', shortened, user)
    end
  end
end
