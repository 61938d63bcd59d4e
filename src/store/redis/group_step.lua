-- Makes one step of the PUT under way: first users of its list become members, then the former members leave.
--
-- ARGV[7] how many users one step takes
-- Returns {whether more steps follow, the number of the PUT, members, added, removed, the users that left...}. Added and
-- removed count all steps of the PUT.

local now = clock()
local joined, left = {}, {}
local coming = redis.call('SPOP', COMING, ARGV[7])
if coming[1] then
  local _, moved, others = divided(coming)
  call_for(moved, 'SREM', FORMER)
  call_for(coming, 'SADD', MEMBERS)
  joined = others
else
  left = redis.call('SPOP', FORMER, ARGV[7])
end
local added = redis.call('HINCRBY', NUMBERS, 'added', #joined)
local removed = redis.call('HINCRBY', NUMBERS, 'removed', #left)
redis.call('PEXPIRE', NUMBERS, 60000)
local more = redis.call('EXISTS', FORMER, COMING) > 0
if more then
  redis.call('ZADD', UNDER_WAY, now, group_id)
else
  redis.call('ZREM', UNDER_WAY, group_id)
end
announce_stored(now, joined, left)
local number = redis.call('HGET', NUMBERS, 'complete') or 0
local answer = { more and 1 or 0, tonumber(number), size(), added, removed }
for _, user in ipairs(left) do
  answer[#answer + 1] = user
end
return answer
