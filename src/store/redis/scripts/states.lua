-- Prelude of the scripts about connections, after connections.lua: the state that is announced of a user.
--
-- KEYS[8] the states of users   KEYS[9] the next changes without a call
--
-- The hash of states has the users whose state is not the default: 'away end status data', separated by \31. `away` is
-- 1 if the user is announced as away, else 0. `end` is when the status ends, in ms, or 0. The status and its data may
-- be empty. The field '' shows that the hash was not lost; see due.lua.
--
-- The index of changes has users by the time of the next change of their state that needs no call, or an earlier time:
-- the last connection that is not away expires, the status ends, or the status of an offline user is forgotten.

local INDEX, STATES, CHANGES = KEYS[1], KEYS[8], KEYS[9]

-- How long the status of an offline user is kept if no last-seen times are kept, in ms.
local STATUS_KEPT = 86400000

-- How long the status of an offline user is kept, in ms.
local function status_kept_for(retention)
  return retention > 0 and retention or STATUS_KEPT
end

local function state_of(user)
  local text = redis.call('HGET', STATES, user)
  if not text then
    return { away = false, ends = 0, status = '', data = '' }
  end
  local away, ends, status, data = text:match('^(%d)\31(%d+)\31([^\31]*)\31(.*)$')
  return { is_written = true, away = away == '1', ends = tonumber(ends), status = status, data = data }
end

local function write_state(user, state)
  if state.away or state.status ~= '' then
    local ends = string.format('%.0f', state.ends)
    local text = table.concat({ state.away and '1' or '0', ends, state.status, state.data }, '\31')
    redis.call('HSET', STATES, user, text)
  elseif state.is_written then
    redis.call('HDEL', STATES, user)
  end
end

-- The last part of an event about a user with this state.
local function shown(state)
  return '\31' .. (state.away and '1' or '0') .. '\31' .. state.status .. '\31' .. state.data
end

-- Removes a status that has ended.
local function end_status(now, state)
  if state.ends ~= 0 and state.ends <= now then
    state.ends, state.status, state.data = 0, '', ''
  end
end

-- Whether all of these connections are away. If only some are, the second value is the latest deadline of the others.
local function away_among(...)
  local all, some, last = true, false, 0
  for _, connections in ipairs({ ... }) do
    for _, each in pairs(connections) do
      if each.away then
        some = true
      else
        all, last = false, math.max(last, each.deadline)
      end
    end
  end
  return some and all, some and not all and last or nil
end

-- Writes when the state of a user may change without a call: with 'LT' only if that is earlier than before.
local function plan_change(user, time, condition)
  if condition then
    redis.call('ZADD', CHANGES, condition, time, user)
  else
    redis.call('ZADD', CHANGES, time, user)
  end
  if redis.call('ZRANK', CHANGES, user) == 0 then
    tell_nearer()
  end
end

-- Notes when the state of an online user may change without a call.
local function await_change(user, time)
  if time then
    plan_change(user, time, 'LT')
  end
end

-- Notes when the status of an offline user ends.
local function await_end(now, user, state, retention)
  if state.status ~= '' then
    plan_change(user, state.ends > 0 and state.ends or now + status_kept_for(retention))
  end
end

-- Updates the state of an online user from its connections. Adds user.updated to `events` if the state changes.
local function update_state(now, user, events, ...)
  local away, next_change = away_among(...)
  await_change(user, next_change)
  local state = state_of(user)
  if away ~= state.away then
    state.away = away
    end_status(now, state)
    write_state(user, state)
    events[#events + 1] = 'u ' .. now .. ' 0 ' .. user .. shown(state)
  end
end

-- Updates the state of a user that goes online from its connections. Returns the last part of user.online.
local function enter_state(now, user, ...)
  local away, next_change = away_among(...)
  await_change(user, next_change)
  local state = state_of(user)
  if not away and not state.is_written then
    return ''
  end
  state.away = away
  end_status(now, state)
  write_state(user, state)
  return (away or state.status ~= '') and shown(state) or ''
end

-- A user goes offline: only its status stays.
local function leave_state(now, user, retention)
  local state = state_of(user)
  if state.is_written then
    state.away = false
    end_status(now, state)
    write_state(user, state)
    await_end(now, user, state, retention)
  end
end
