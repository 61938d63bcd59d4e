-- Reads the members of a group.
--
-- After announce.lua, outages.lua and groups.lua, which explain KEYS[1] to KEYS[17] and ARGV[1] to ARGV[6].
-- ARGV[7] 'announced' or 'now': whether users count whose departure from the group is not announced yet
-- Returns {the stored members, the seats that are alive, or the users with seats}.

local stored = redis.call('SUNION', MEMBERS, FORMER)
if ARGV[7] == 'announced' then
  return { stored, redis.call('HKEYS', SEATED) }
end
return { stored, redis.call('ZRANGE', SEATS, clock(), '+inf', 'BYSCORE') }
