-- Announces due users who are gone.
--
-- KEYS[4] when the last sweep ran   ARGV[3] how long without a sweep is an outage, in ms
-- KEYS[5] exists during a grace     ARGV[4] how long a connection lives, in ms
-- then for each user                ARGV[5] how long last-seen is kept, in ms; 0 for not at all
--   the user's key                  then for each user
--   when the user was seen            userId
-- Returns how many ms after its deadline each departure was announced.
--
-- Another instance may have swept the same users since they were found due, they may have come back,
-- or all instances may have been away: so nothing that was read before is taken for granted.

local now = clock()
local swept = tonumber(redis.call('GET', KEYS[4]))
if swept and now - swept > tonumber(ARGV[3]) or redis.call('EXISTS', KEYS[5]) == 1 then
  return {}
end

local events, lateness = {}, {}
for i = 6, #ARGV do
  local user, key, seen = ARGV[i], KEYS[2 * i - 6], KEYS[2 * i - 5]
  local score = redis.call('PEXPIRETIME', key) < 0 and redis.call('ZSCORE', KEYS[1], user)
  if score then
    redis.call('ZREM', KEYS[1], user)
    -- A connection that was closed since may have been alive later than the last to expire.
    local last_seen = math.max(score - ARGV[4], tonumber(redis.call('GET', seen)) or 0)
    if ARGV[5] ~= '0' then
      redis.call('SET', seen, last_seen, 'PX', ARGV[5])
    end
    events[#events + 1] = 'e ' .. now .. ' ' .. last_seen .. ' ' .. user
    -- Not yet due is who lost their key to somebody else, or before the clock was set back.
    lateness[#lateness + 1] = math.max(now - score, 0)
  end
end
if events[1] then
  announce(now, events)
end
return lateness
