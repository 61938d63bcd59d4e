-- Prelude of the scripts about the seats of a group, after groups.lua.
--
-- A seat is a connection in a group that it stated. The sorted set SEATS has 'userId connectionId' of each seat by the
-- deadline of the seat, with the separator between the ids. The hash SEATED has 'connectionId stamp TTL interval' of
-- each seat of a user, with the separator between the seats. The stamp is that of the last step of the connection that
-- the group knows; see outbox.lua. In both, ' ~' ends the text of a seat whose connection leaves with a grace period.

-- How long the stamp of a connection that left is kept, in microseconds. This is longer than a message may take.
local STAMPS_KEPT = 60000000

-- The seats of a user, by connectionId.
local known_seats = {}
local function seats_of(user)
  local seats = known_seats[user]
  if not seats then
    seats = {}
    for text in (redis.call('HGET', SEATED, user) or ''):gmatch('[^\31]+') do
      local id, stamp, ttl, interval, left = text:match('^([^ ]+) (%d+) (%d+) (%d+)(.*)$')
      seats[id] = { stamp = stamp, ttl = tonumber(ttl), interval = tonumber(interval), left = left ~= '' }
    end
    known_seats[user] = seats
  end
  return seats
end

local function write_seats(user, seats)
  local texts = {}
  for id, seat in pairs(seats) do
    local text = string.format('%s %s %.0f %.0f', id, seat.stamp, seat.ttl, seat.interval)
    texts[#texts + 1] = text .. (seat.left and ' ~' or '')
  end
  if texts[1] then
    redis.call('HSET', SEATED, user, table.concat(texts, SEPARATOR))
  else
    redis.call('HDEL', SEATED, user)
  end
end

-- The name of a seat in SEATS.
local function seat_name(user, id, seat)
  return user .. SEPARATOR .. id .. (seat.left and ' ~' or '')
end

local function is_stored(user)
  return redis.call('SISMEMBER', MEMBERS, user) == 1 or redis.call('SISMEMBER', FORMER, user) == 1
end

-- Lets a sweep look at the group at `time` at the latest.
local function look_at(time)
  local is_nearer = redis.call('ZADD', DUE_GROUPS, 'LT', 'CH', time, group_id) == 1
  if is_nearer and redis.call('ZRANK', DUE_GROUPS, group_id) == 0 then
    tell_nearer()
  end
end
