-- Updates the states of users that change without a call: a connection expired, or a status ended.
--
-- After announce.lua, outages.lua and states.lua, which explain KEYS[1] to KEYS[9] and ARGV[1] to ARGV[5].
-- for each user                     ARGV[6] how long the last-seen time is kept, in ms
--   the user's key                  then for each user
--   the user's connections            userId

local FIRST_KEY, FIRST_ARGUMENT = 10, 7

local now = clock()
note_outage(now)
local events = {}

-- The latest end of the connections that are not away, if others are away; else nil. A connection ends at its deadline,
-- or at the end of its hold.
local function next_end(connections)
  local some, last = false, 0
  for _, each in pairs(connections) do
    if each.away then
      some = true
    else
      last = math.max(last, each.deadline >= now and each.deadline or hold_of(now, each))
    end
  end
  return some and last > 0 and last or nil
end

local function change(user, key, connections_key)
  local time = redis.call('ZSCORE', CHANGES, user)
  if not time or tonumber(time) > now then
    return
  end
  local score, state, next_change = redis.call('ZSCORE', INDEX, user), state_of(user), nil
  local before = shown(state)
  if score then
    local value, deadline = redis.call('GET', key), redis.call('PEXPIRETIME', key)
    local connections = connections_of(now, user, connections_key, value, deadline, score)
    -- Without a connection, a sweep announces the departure.
    if next(connections) then
      state.away = away_among(connections)
      next_change = next_end(connections)
    end
  elseif state.ends == 0 then
    state.status, state.data = '', ''
  end
  end_status(now, state)
  if state.ends > 0 then
    next_change = math.min(next_change or state.ends, state.ends)
  end
  if shown(state) ~= before then
    write_state(user, state)
    if score then
      events[#events + 1] = 'u ' .. now .. ' 0 ' .. user .. shown(state)
    end
  end
  if next_change then
    redis.call('ZADD', CHANGES, math.max(next_change, now) + 1, user)
  else
    redis.call('ZREM', CHANGES, user)
  end
end

for i = FIRST_ARGUMENT, #ARGV do
  local key = FIRST_KEY + 2 * (i - FIRST_ARGUMENT)
  change(ARGV[i], KEYS[key], KEYS[key + 1])
end
if events[1] then
  announce(now, events)
end
return #events
