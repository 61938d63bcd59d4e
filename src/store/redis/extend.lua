-- Pings of unnamed connections that are their users' only ones: makes each key live for another TTL if it holds
-- the number of the grant.
--
-- KEYS the users' keys                  ARGV[1] the number of the grant
--                                       ARGV[2] its TTL, in ms
-- Returns the places, from 1, of the keys that hold something else or are not there: those are unchanged.

local missed = {}
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then
    redis.call('PEXPIRE', key, ARGV[2])
  else
    missed[#missed + 1] = i
  end
end
return missed
