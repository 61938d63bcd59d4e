-- Deletes the records of users that left a group. The script has no prelude.
--
-- for each user           ARGV[1] groupId
--   the user's groups     ARGV[2] how old a record must be, in ms
-- Returns the indices, from 1, of the users whose record is too young.

local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2]
local young = {}
for i, groups in ipairs(KEYS) do
  local recorded = redis.call('ZSCORE', groups, ARGV[1])
  if recorded and tonumber(recorded) > oldest then
    young[#young + 1] = i
  elseif recorded then
    redis.call('ZREM', groups, ARGV[1])
  end
end
return young
