-- Whether users are members of a group.
--
-- ARGV[6...] the userIds
-- Returns 1 or 0 for each user.

local answer = {}
for i = 6, #ARGV do
  local stored = redis.call('SISMEMBER', MEMBERS, ARGV[i])
  answer[#answer + 1] = math.max(stored, redis.call('SISMEMBER', FORMER, ARGV[i]))
end
return answer
