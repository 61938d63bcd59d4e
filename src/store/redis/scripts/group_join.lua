-- Gives a connection a seat in the group, or extends its seat.
--
-- After announce.lua, outages.lua and groups.lua, which explain KEYS[1] to KEYS[17] and ARGV[1] to ARGV[6].
-- ARGV[7] the time after which the call is too late, in ms
-- ARGV[8] the maximum number of members     ARGV[11] the stamp of the call; see outbox.lua
-- ARGV[9] userId                            ARGV[12] the TTL of the connection, in ms
-- ARGV[10] connectionId                     ARGV[13] the ping interval of the connection, in ms
-- Returns 'joined', 'full', 'late', or 'old' if the group knows a later step of the connection.

local now, user, id, stamp = clock(), ARGV[9], ARGV[10], tonumber(ARGV[11])

-- Whether the group has room for no other user.
local function is_full()
  local most = tonumber(ARGV[8])
  local stored, seated = size_at_most(), redis.call('HLEN', SEATED)
  if stored + seated < most then
    return false
  end
  if stored >= most or seated >= most then
    return true
  end
  -- Some users may be members in both ways.
  local _, others = divided(redis.call('HKEYS', SEATED))
  return stored + #others >= most
end

local seats = seats_of(user)
local seat = seats[id]
local left = redis.call('ZSCORE', GONE, user .. SEPARATOR .. id)
if tonumber(left or 0) > stamp or seat and tonumber(seat.stamp) > stamp then
  return 'old'
end
if now > tonumber(ARGV[7]) then
  return 'late'
end
local was_member = next(seats) ~= nil or is_stored(user)
if not was_member and is_full() then
  return 'full'
end
local deadline = now + tonumber(ARGV[12])
redis.call('ZADD', SEATS, deadline, user .. SEPARATOR .. id)
if seat and seat.left then
  redis.call('ZREM', SEATS, seat_name(user, id, seat))
end
seats[id] = { stamp = ARGV[11], ttl = tonumber(ARGV[12]), interval = tonumber(ARGV[13]) }
write_seats(user, seats)
look_at(deadline)
note_delicate(seats[id].ttl, seats[id].interval)
if not was_member then
  announce(now, member_events(now, { user }, {}))
end
return 'joined'
