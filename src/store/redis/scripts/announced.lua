-- Finds the announced users among some users, as of one event.
--
-- After announce.lua, which explains KEYS[1] to KEYS[5] and ARGV[1] to ARGV[4].
-- KEYS[6] the states of users       ARGV[5...] the userIds
-- Returns {epoch, newest event, the indices, from 0, of the announced users, of these the states; see states.lua}.

local known = epoch()
local indices, users = {}, {}
-- unpack accepts some thousand values at most.
for first = 5, #ARGV, 1000 do
  local last = math.min(first + 999, #ARGV)
  local scores = redis.call('ZMSCORE', KEYS[1], unpack(ARGV, first, last))
  for i = 1, last - first + 1 do
    if scores[i] then
      indices[#indices + 1] = first + i - 6
      users[#users + 1] = ARGV[first + i - 1]
    end
  end
end
local states = {}
-- One field is of no user; see due.lua.
if users[1] and redis.call('HLEN', KEYS[6]) > 1 then
  for from = 1, #users, 1000 do
    local found = redis.call('HMGET', KEYS[6], unpack(users, from, math.min(from + 999, #users)))
    for _, state in ipairs(found) do
      states[#states + 1] = state or ''
    end
  end
end
return { known, newest(), indices, states }
