-- Looks again at due users: the living are re-armed to their deadline.
--
-- KEYS[4] and on: the keys of users   ARGV[3] and on: their userIds
-- Returns the places, from 0, of the others. They seem to be gone; sweep.lua decides.
--
-- Nearly everyone who is due is alive, so this does no more for each than it must.

local rearmed, gone = {}, {}
for i = 4, #KEYS do
  local deadline = redis.call('PEXPIRETIME', KEYS[i])
  if deadline >= 0 then
    rearmed[#rearmed + 1] = deadline
    rearmed[#rearmed + 1] = ARGV[i - 1]
  else
    gone[#gone + 1] = i - 4
  end
end
if rearmed[1] then
  redis.call('ZADD', KEYS[1], 'XX', unpack(rearmed))
end
return gone
