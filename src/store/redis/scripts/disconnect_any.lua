-- Part of disconnect.lua that can run every call, and runs the calls that are not usual. It is the end of the body of
-- the function any_call(now), after outages.lua, connections.lua, states.lua, last_seen.lua, outbox.lua and scores.lua.

local HELD = KEYS[5]
local retention = tonumber(ARGV[6])

-- Makes connect.lua refuse pings that were sent before the disconnect and arrive after it. The connection ends at
-- `ends`.
local function mark(closed, id, ends)
  local is_first = redis.call('EXISTS', closed) == 0
  if not is_first then
    redis.call('ZREMRANGEBYSCORE', closed, '-inf', as_text(now))
    redis.call('ZREM', closed, '!' .. id)
  end
  local refused_until = ends + CLOSED_FOR
  -- A fraction shows that the end was in the future.
  redis.call('ZADD', closed, refused_until + (ends > now and 0.5 or 0), id)
  if is_first or redis.call('PEXPIRETIME', closed) < refused_until then
    redis.call('PEXPIREAT', closed, as_text(refused_until))
  end
end

-- Whether the grant with the number of a connection in the hash still explains its TTL and interval. Sets `own_ttl` if
-- the connection asked for a TTL.
local function finds_grant(each)
  local ttl, interval, is_known = grant(each.number)
  if not is_known then
    return false
  end
  each.own_ttl = each.ttl ~= ttl and each.ttl or nil
  return scaled_interval(each.ttl, ttl, interval) == each.interval
end

-- Ends the hold of the departure of an announced user that had no key and has one again: the key was lost, or the clock
-- was set back. Returns whether there was none, because then the score may be the end of the hold.
local function end_hold(call)
  if call.value then
    return false
  end
  redis.call('ZREM', HELD, call.user)
  return true
end

-- The user stays online by other connections, with the latest deadline `last`.
local function stay(call, connections, ended, is_alone, last)
  local score = call.score
  local former_number = select(2, parts(score or 0))
  local number, was_held = former_number, false
  -- A user without a score keeps a key that no ping matches, so the next ping enters the user into the index.
  local other, each = next(connections)
  if score and is_alone and not each.left and finds_grant(each) then
    number = each.number
    write_only(call.user, call.key, other, each, last)
    redis.call('DEL', call.hash)
    was_held = end_hold(call)
  else
    forget(call.hash, ended)
    redis.call('PEXPIREAT', call.hash, as_text(last + AFTERLIFE))
    if score and not call.value then
      redis.call('SET', call.key, '*')
      was_held = end_hold(call)
    end
    redis.call('PEXPIREAT', call.key, as_text(last))
  end
  if score and (was_held or call.before > last or number ~= former_number) then
    set_score(call.user, call.before, former_number, last, number)
  end
  return { 1, 0, 0 }
end

-- After an outage another connection may still ping. The next sweep holds the departure, unless it is held already.
local function wait(call, connections, ended)
  forget(call.hash, ended)
  local number = select(2, parts(call.score))
  if call.value then
    redis.call('DEL', call.key)
    set_score(call.user, call.before, number, now - 1, number)
  elseif redis.call('ZSCORE', HELD, call.user) then
    redis.call('ZADD', INDEX, 'XX', longest_hold(now, connections) + number / 4096, call.user)
    tell_nearer()
  end
  return { 0, 0, 0 }
end

local function remember(user, at)
  local field, spread = place_of(user)
  keep_last_seen(now, field, spread, at, retention)
end

-- The user is offline.
local function leave(call)
  if redis.call('ZREM', INDEX, call.user) == 0 then
    return { 0, 0, 0 }
  end
  remember(call.user, now)
  leave_state(now, call.user, retention)
  events[#events + 1] = 'd ' .. now .. ' ' .. now .. ' ' .. call.user
  return { 0, 1, 0 }
end

-- The connection leaves after the grace period, or at its deadline if that is earlier. Until then it counts.
local function leave_later(call, connections, recent, ended)
  local each = connections[call.id]
  each.pinged = each.pinged or each.deadline - each.ttl
  each.left = now
  each.deadline = math.min(each.deadline, now + call.grace)
  mark(call.closed, call.id, each.deadline)
  shorten_in_groups(call.messages, now, call.user, call.id, each.groups or '', each.deadline, 'd')
  local _, _, last = tally(now, connections)
  forget(call.hash, ended)
  for _, some in ipairs({ connections, recent }) do
    for id, other in pairs(some) do
      redis.call('HSET', call.hash, id, text_of(other))
    end
  end
  redis.call('PEXPIREAT', call.hash, as_text(last + AFTERLIFE))
  redis.call('SET', call.key, '*', 'PXAT', as_text(last))
  if call.score then
    forget_record(call.user, call.value)
    local number = select(2, parts(call.score))
    if end_hold(call) or call.before > last then
      set_score(call.user, call.before, number, last, number)
    end
    update_state(now, call.user, events, connections, recent)
  end
  return { 1, 0, each.deadline }
end

-- Runs a call and returns its answer, without the messages to groups.
local function disconnect(call)
  local user, id, value = call.user, call.id, call.value
  if value and value ~= '*' and call.grace == 0 and only_connection(value) == id then
    -- The only connection is closed.
    mark(call.closed, id, now)
    redis.call('DEL', call.key)
    forget_record(user, value)
    leave_groups(call.messages, now, user, id, value:match('\31.*$') or '', '')
    return leave(call)
  end

  call.before = redis.call('PEXPIRETIME', call.key)
  local connections, recent, ended = {}, {}, {}
  local closed
  if id == '' then
    redis.call('DEL', call.closed)
    mark(call.closed, '*', now)
    local all, expired = connections_of(now, user, call.hash, value, call.before, call.score)
    for _, some in ipairs({ all, expired }) do
      for each_id, each in pairs(some) do
        leave_groups(call.messages, now, user, each_id, each.groups or '', '')
      end
    end
  elseif value == '*' and redis.call('EXISTS', call.hash) == 0 then
    -- The hash was lost. Another connection may be alive, so the user stays online until the key expires.
    mark(call.closed, id, now)
    remember(user, now)
    return { 1, 0, 0 }
  else
    connections, recent, ended = connections_of(now, user, call.hash, value, call.before, call.score)
    closed = connections[id]
    if closed and closed.deadline >= now and call.grace > 0 then
      return leave_later(call, connections, recent, ended)
    end
    connections[id] = nil
    if closed then
      leave_groups(call.messages, now, user, id, closed.groups or '', '')
      mark(call.closed, id, now)
      ended[#ended + 1] = id
    elseif recent[id] then
      -- The connection had expired, and may have pinged later than the others.
      redis.call('HDEL', call.hash, id)
      local seen = seen_at(recent[id])
      local field, spread = place_of(user)
      remember(user, math.max(seen, last_seen_of(field, spread, seen)))
    end
  end

  local alive, waiting, last = tally(now, connections)
  if alive + waiting > 0 and not closed then
    return { alive > 0 and 1 or 0, 0, 0 }
  end
  if alive > 0 then
    remember(user, now)
    if call.score then
      update_state(now, user, events, connections, recent)
    end
    return stay(call, connections, ended, alive + waiting == 1 and not next(recent), last)
  end
  if waiting > 0 and call.score then
    remember(user, now)
    return wait(call, connections, ended)
  end
  redis.call('DEL', call.key, call.hash)
  if call.score then
    redis.call('ZREM', HELD, user)
    forget_record(user, value)
  end
  return leave(call)
end

return {
  run = function(call)
    local answer = disconnect(call)
    for _, message in ipairs(call.messages) do
      answer[#answer + 1] = message
    end
    return answer
  end,
  replace_full = replace_full,
}
