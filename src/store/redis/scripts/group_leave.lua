-- Delivers a message of the outbox to the group: a connection left the group, or ends earlier; see outbox.lua.
--
-- After announce.lua, outages.lua and groups.lua, which explain KEYS[1] to KEYS[17] and ARGV[1] to ARGV[6].
-- ARGV[7] userId           ARGV[10] when the connection ends in the group, in ms from now; 0: at once
-- ARGV[8] connectionId     ARGV[11] 'd' if the connection leaves, 's' if only its deadline was shortened
-- ARGV[9] the stamp

local now, user, id, stamp = clock(), ARGV[7], ARGV[8], tonumber(ARGV[9])
local ends = tonumber(ARGV[10])

-- Calls that are older and arrive later are ignored.
redis.call('ZADD', GONE, 'GT', ARGV[9], user .. SEPARATOR .. id)
redis.call('ZREMRANGEBYSCORE', GONE, '-inf', string.format('%.0f', stamp - STAMPS_KEPT))
redis.call('PEXPIRE', GONE, STAMPS_KEPT / 1000)

local seats = seats_of(user)
local seat = seats[id]
if not seat or tonumber(seat.stamp) > stamp then
  return
end
local name = seat_name(user, id, seat)
if ends > 0 then
  local deadline = math.min(now + ends, tonumber(redis.call('ZSCORE', SEATS, name) or now))
  redis.call('ZREM', SEATS, name)
  seat.left = seat.left or ARGV[11] == 'd'
  seat.stamp = ARGV[9]
  redis.call('ZADD', SEATS, deadline, seat_name(user, id, seat))
  write_seats(user, seats)
  look_at(deadline)
  return
end
redis.call('ZREM', SEATS, name)
seats[id] = nil
write_seats(user, seats)
if not next(seats) and not is_stored(user) then
  announce(now, member_events(now, {}, { user }, 'd'))
end
