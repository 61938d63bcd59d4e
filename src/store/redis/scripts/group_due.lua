-- Ends the seats of a group whose deadline has passed, unless they are held after an outage.
--
-- After announce.lua, outages.lua and groups.lua, which explain KEYS[1] to KEYS[17] and ARGV[1] to ARGV[6].
-- ARGV[7] how many seats at the beginning are held     ARGV[9] the first end of these holds, or 0
-- ARGV[8] how many seats the script looks at
-- Returns {1 if more seats may be due, how many seats at the beginning are held, the first end of these holds or 0}.

local now = clock()
note_outage(now)
local held, first_end = tonumber(ARGV[7]), tonumber(ARGV[9])

local function seat_of(name)
  local user, id, left = name:match('^([^\31]+)\31([^ ]+)(.*)$')
  local unknown = { ttl = tonumber(ARGV[3]), interval = tonumber(ARGV[4]), left = left ~= '' }
  return user, id, seats_of(user)[id] or unknown
end

if held == 0 and tonumber(redis.call('ZSCORE', DUE_GROUPS, group_id) or 1) == 0 then
  -- The clock was set back. No deadline may be later than now plus the TTL.
  local later = redis.call('ZRANGE', SEATS, '(' .. now, '+inf', 'BYSCORE', 'WITHSCORES')
  for i = 1, #later, 2 do
    local _, _, seat = seat_of(later[i])
    if tonumber(later[i + 1]) > now + seat.ttl then
      redis.call('ZADD', SEATS, 'XX', now + seat.ttl, later[i])
    end
  end
end

-- The changed users in the order of the ends of their seats, and why each left the group.
local changed, reasons = {}, {}

local function finish(user, id, name, seat)
  redis.call('ZREM', SEATS, name)
  seats_of(user)[id] = nil
  changed[#changed + 1] = user
  reasons[user] = seat.left and 'd' or 'e'
end

local due = redis.call('ZRANGE', SEATS, '-inf', '(' .. now, 'BYSCORE', 'LIMIT', held, ARGV[8], 'WITHSCORES')
for i = 1, #due, 2 do
  local user, id, seat = seat_of(due[i])
  local hold = seat.left and 0 or (held_until(now, tonumber(due[i + 1]), seat.ttl, seat.interval))
  if hold > now then
    held = held + 1
    first_end = first_end == 0 and hold or math.min(first_end, hold)
  else
    finish(user, id, due[i], seat)
  end
end

local left = { d = {}, e = {} }
for _, user in ipairs(changed) do
  local reason, seats = reasons[user], seats_of(user)
  if reason then
    write_seats(user, seats)
    if not next(seats) and not is_stored(user) then
      table.insert(left[reason], user)
    end
    reasons[user] = nil
  end
end
local events = member_events(now, {}, left.d, 'd')
for _, event in ipairs(member_events(now, {}, left.e, 'e')) do
  events[#events + 1] = event
end
if events[1] then
  announce(now, events)
end
if #due == 2 * tonumber(ARGV[8]) then
  return { 1, held, first_end }
end

local next_deadline = tonumber(redis.call('ZRANGE', SEATS, now, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2])
local look = next_deadline and next_deadline + 1
if first_end > 0 then
  look = math.min(look or first_end, first_end)
  if ARGV[7] ~= '0' then
    -- A ping between two calls may have moved a held seat, so that the second call passed over another seat.
    look = math.min(look, now + 1000)
  end
end
if look then
  note_delicate(look - now, (look - now) * ARGV[4] / ARGV[3])
  redis.call('ZADD', DUE_GROUPS, look, group_id)
else
  redis.call('ZREM', DUE_GROUPS, group_id)
end
return { 0, held, first_end }
