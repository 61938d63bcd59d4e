-- Announces the departures of due users, or holds them after an outage.
--
-- After announce.lua, outages.lua and states.lua, which explain KEYS[1] to KEYS[9] and ARGV[1] to ARGV[5].
-- for each user                     ARGV[6] how long the last-seen time is kept, in ms; 0 keeps none
--   the user's key                  then for each user
--   the user's connections            userId
-- the generations of last-seen times
-- Returns how many of the announced users had disconnected with a grace period, then the lateness of each announced
-- departure, in ms. The latenesses of the users with a grace period come first.
--
-- Since the caller read the index, another instance may have swept the same users, the users may have come back, or
-- there may have been an outage. So this script checks everything again.

local now = clock()
note_outage(now)

-- Returns the last-seen time of a user that is gone, its deadline, the end of the hold, whether the hold is prolonged,
-- and whether the last connection left.
--
-- `time` is the time in the index, `number` the number of the grant of an only connection. `held` is the deadline
-- if the departure is held already, and `was_prolonged` says whether that hold was prolonged.
local function departure(user, connections, time, number, held, was_prolonged)
  if not next(connections) then
    local _, each = recorded(user, number)
    local ttl, interval = each.ttl, each.interval
    if held then
      return held - ttl, held, held_again(now, time, each, held, was_prolonged)
    end
    -- An only connection may have pinged later than the index shows, or not. The longer hold counts.
    local hold, is_prolonged = held_until(now, assumed_deadline(now, time), ttl, interval, time)
    local at_least, over = held_until(now, time, ttl, interval)
    if at_least > hold then
      hold, is_prolonged = at_least, over
    end
    return time - ttl, time, hold, is_prolonged
  end
  local last_seen, deadline, has_left = 0, 0, false
  for _, each in pairs(connections) do
    last_seen = math.max(last_seen, seen_at(each))
    if each.deadline > deadline or each.deadline == deadline and not each.left then
      deadline, has_left = each.deadline, each.left ~= nil
    end
  end
  for _, each in pairs(connections) do
    -- The clock may have been set back since the departure was held.
    each.deadline = math.min(each.deadline, held or each.deadline)
  end
  local hold, is_prolonged = longest_hold(now, connections)
  return last_seen, deadline, hold, is_prolonged, has_left
end

local events, lateness, left_lateness = {}, {}, {}

local function depart(user, connections_key, last_seen, deadline, has_left)
  redis.call('ZREM', KEYS[1], user)
  if redis.call('DEL', connections_key) == 0 then
    forget_record(user, false)
  end
  -- A connection that was closed before may have been alive later than the last one that expired.
  local field, spread = place_of(user)
  last_seen = math.min(math.max(last_seen, last_seen_of(field, spread, last_seen)), now)
  keep_last_seen(now, field, spread, last_seen, tonumber(ARGV[6]))
  leave_state(now, user, tonumber(ARGV[6]))
  events[#events + 1] = (has_left and 'd ' or 'e ') .. now .. ' ' .. last_seen .. ' ' .. user
  local all = has_left and left_lateness or lateness
  -- A user is not overdue if another program deleted its key, or if the clock was set back.
  all[#all + 1] = math.max(now - deadline, 0)
end

-- Announces or holds the departure of a user, unless the user came back or the departure is held already.
local function check(user, key, connections_key)
  local score = redis.call('PEXPIRETIME', key) < 0 and redis.call('ZSCORE', KEYS[1], user)
  if not score then
    return
  end
  local time, number = parts(score)
  local held, was_prolonged = held_deadline(user)
  -- The score of a user whose departure is held is the end of the hold.
  if held and time >= now then
    return
  end
  local connections = written(connections_key)
  local last_seen, deadline, hold, is_prolonged, has_left =
    departure(user, connections, time, number, held, was_prolonged)
  -- A departure is held once, and the hold is prolonged once.
  if hold <= now or was_prolonged then
    redis.call('ZREM', KEYS[5], user)
    depart(user, connections_key, last_seen, deadline, has_left)
  else
    set_held(user, held or deadline, is_prolonged)
    redis.call('ZADD', KEYS[1], 'XX', hold + number / 4096, user)
  end
end

for i = 7, #ARGV do
  check(ARGV[i], KEYS[2 * i - 4], KEYS[2 * i - 3])
end
if events[1] then
  announce(now, events)
end
local answer = { #left_lateness }
for _, some in ipairs({ left_lateness, lateness }) do
  for _, each in ipairs(some) do
    answer[#answer + 1] = each
  end
end
return answer
