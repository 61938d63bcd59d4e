-- The usual pings in groups: extends the seats of connections that stated the group before. The script has no prelude.
--
-- for each ping               ARGV[1] the time after which the pings are too late, in ms
--   the seats of the group    then for each ping
-- the key that never exists     the seat; see seats.lua
--                               the TTL, in ms
-- Returns 1 or 0 for each ping: whether there is such a seat.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answers = {}
for i = 1, #KEYS - 1 do
  local deadline = now + ARGV[2 * i + 1]
  local is_late = now > tonumber(ARGV[1])
  answers[i] = is_late and 0 or redis.call('ZADD', KEYS[i], 'XX', 'GT', 'CH', deadline, ARGV[2 * i])
end
return answers
