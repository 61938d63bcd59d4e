-- Makes one step of the PUT under way. First the former members leave or stay. Then the other users of the list become
-- members. So the group never has more members than before or after the PUT.
--
-- After announce.lua, outages.lua and groups.lua, which explain KEYS[1] to KEYS[17] and ARGV[1] to ARGV[6].
-- ARGV[7] how many users one step takes
-- Returns {1 if more steps follow, else 0; the number of the PUT; members; added; removed; the users that left...}.
-- Added and removed are numbers of users, of all steps of the PUT so far.

local now = clock()
local joined, left = {}, {}
local former = redis.call('SPOP', FORMER, ARGV[7])
if former[1] then
  local stay = {}
  local are_coming = call_for(former, 'SMISMEMBER', COMING)
  for i, user in ipairs(former) do
    table.insert(are_coming[i] == 1 and stay or left, user)
  end
  call_for(stay, 'SREM', COMING)
  call_for(stay, 'SADD', MEMBERS)
else
  joined = redis.call('SPOP', COMING, ARGV[7])
  call_for(joined, 'SADD', MEMBERS)
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
