-- Notes that the list of a PUT has arrived. From then on any instance can finish the PUT, step by step.
--
-- After announce.lua, outages.lua and groups.lua, which explain KEYS[1] to KEYS[17] and ARGV[1] to ARGV[6].
-- KEYS[18] the list           ARGV[7] the time after which the list may not be used, in ms
--                             ARGV[8] the number of the PUT
--                             ARGV[9] how many members the list has
-- Returns 'complete', 'late', 'superseded' by a PUT that began later, or 'busy' while another PUT is under way.

local number = tonumber(ARGV[8])
local complete = redis.call('HGET', NUMBERS, 'complete')
if complete and tonumber(complete) > number then
  redis.call('UNLINK', KEYS[18])
  return 'superseded'
end
if clock() > tonumber(ARGV[7]) or redis.call('SCARD', KEYS[18]) ~= tonumber(ARGV[9]) then
  return 'late'
end
if redis.call('EXISTS', FORMER, COMING) > 0 then
  return 'busy'
end
redis.call('HSET', NUMBERS, 'complete', number, 'added', 0, 'removed', 0)
redis.call('PEXPIRE', NUMBERS, 60000)
if redis.call('EXISTS', MEMBERS) == 1 then
  redis.call('RENAME', MEMBERS, FORMER)
end
if redis.call('EXISTS', KEYS[18]) == 1 then
  redis.call('RENAME', KEYS[18], COMING)
  redis.call('PERSIST', COMING)
end
redis.call('ZADD', UNDER_WAY, clock(), group_id)
-- If this instance dies now, the others have to finish the PUT.
tell_nearer()
return 'complete'
