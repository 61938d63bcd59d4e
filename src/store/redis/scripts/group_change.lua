-- Changes or replaces the stored members of a group, in one step.
--
-- After announce.lua, outages.lua and groups.lua, which explain KEYS[1] to KEYS[17] and ARGV[1] to ARGV[6].
-- ARGV[7] the time after which nothing may be added, in ms    ARGV[10] the users to remove; '*': all but those to add
-- ARGV[8] the maximum number of stored members                ARGV[11] how many members '*' may look at
-- ARGV[9] the users to add
-- Returns {'done', members, added, the removed users...}, {'late'}, {'full'}, {'busy'} while a PUT is under way, or
-- {'large'} if '*' would look at more members.

local now = clock()
local add, is_replacement = ids_of(ARGV[9]), ARGV[10] == '*'
if add[1] and now > tonumber(ARGV[7]) then
  return { 'late' }
end
if redis.call('EXISTS', FORMER, COMING) > 0 then
  return { 'busy' }
end
local remove
if is_replacement then
  if redis.call('SCARD', MEMBERS) > tonumber(ARGV[11]) then
    return { 'large' }
  end
  local keeps = {}
  for _, id in ipairs(add) do
    keeps[id] = true
  end
  remove = {}
  for _, id in ipairs(redis.call('SMEMBERS', MEMBERS)) do
    if not keeps[id] then
      remove[#remove + 1] = id
    end
  end
else
  remove = ids_of(ARGV[10])
end

local left = divided(remove)
local _, joined = divided(add)
if joined[1] and size() + #joined > tonumber(ARGV[8]) + #left then
  return { 'full' }
end
call_for(left, 'SREM', MEMBERS)
call_for(joined, 'SADD', MEMBERS)
if is_replacement then
  local number = redis.call('HINCRBY', NUMBERS, 'begun', 1)
  redis.call('HSET', NUMBERS, 'complete', number)
  redis.call('PEXPIRE', NUMBERS, 60000)
end
announce_stored(now, joined, left)
local answer = { 'done', size(), #joined }
for _, user in ipairs(left) do
  answer[#answer + 1] = user
end
return answer
