-- Pings of unnamed connections that are the only ones of their users: extends each key by the TTL if it holds the
-- number of the grant.
--
-- KEYS the keys of users                ARGV[1] the number of the grant
--                                       ARGV[2] the TTL of the grant, in ms
-- Returns the indices, from 1, of the keys that do not exist or hold another value. These keys are unchanged.

local missed = {}
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then
    redis.call('PEXPIRE', key, ARGV[2])
  else
    missed[#missed + 1] = i
  end
end
return missed
