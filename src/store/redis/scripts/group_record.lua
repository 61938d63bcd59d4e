-- Records that users will become members of a group, before they do. The script has no prelude.
--
-- for each user           ARGV[1] groupId
--   the user's groups     ARGV[2] the maximum number of groups of a user
-- the key that never exists
-- Returns the indices, from 1, of the users that have the maximum number of groups. They are not recorded.
--
-- A record is the time of the last call that meant to add the user. It is deleted only when it is older than such a
-- call can be; so the record of a member is never missing.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local full = {}
for i = 1, #KEYS - 1 do
  local groups = KEYS[i]
  if redis.call('ZADD', groups, now, ARGV[1]) == 1 and redis.call('ZCARD', groups) > tonumber(ARGV[2]) then
    redis.call('ZREM', groups, ARGV[1])
    full[#full + 1] = i
  end
end
return full
