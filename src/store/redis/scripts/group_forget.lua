-- Deletes the records of users that are not members of a group. The script has no prelude.
--
-- for each user           ARGV[1] groupId
--   the user's groups     ARGV[2] a time in ms: younger records stay, because a call may still add their users
-- the key that never exists
-- Returns the indices, from 1, of the users whose records stay.

local young = {}
for i = 1, #KEYS - 1 do
  local groups = KEYS[i]
  local recorded = redis.call('ZSCORE', groups, ARGV[1])
  if recorded and tonumber(recorded) >= tonumber(ARGV[2]) then
    young[#young + 1] = i
  elseif recorded then
    redis.call('ZREM', groups, ARGV[1])
  end
end
return young
