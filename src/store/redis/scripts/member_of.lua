-- Finds the groups of which a user is an announced member, among some groups of one partition. The script has no
-- prelude.
--
-- for each group                                                  ARGV[1] userId
--   the stored members
--   the stored members that the PUT under way has not reached
--   the users with seats
-- the key that never exists
-- Returns the indices, from 1, of these groups.
--
-- A user is an announced member while it is stored or has a seat, also after the deadline of the seat; see groups.lua.

local user, found = ARGV[1], {}
for i = 1, (#KEYS - 1) / 3 do
  local members, former, seated = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  if redis.call('SISMEMBER', members, user) == 1 or redis.call('SISMEMBER', former, user) == 1
    or redis.call('HEXISTS', seated, user) == 1 then
    found[#found + 1] = i
  end
end
return found
