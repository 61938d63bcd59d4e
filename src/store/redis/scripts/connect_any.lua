-- Part of connect.lua that can run every call, and runs the calls that are not usual. It is the end of the body of the
-- function any_call(now), after outages.lua, connections.lua, states.lua, outbox.lua and scores.lua.

local HELD = KEYS[5]
local grant_of_caller = ARGV[3] .. ' ' .. ARGV[4]
local most = tonumber(ARGV[6])

-- How many connections one command writes. unpack accepts some thousand values at most.
local PART = 1000

-- Whether a mark forbids pings of a connection. A mark too far in the future is from before the clock was set back.
local function is_closed(closed, id)
  local marks = redis.call('ZMSCORE', closed, id, '*', '!' .. id)
  local counts = function(mark)
    local refused_until = tonumber(mark or nil) or 0
    local longest = refused_until % 1 == 0 and CLOSED_FOR or LONGEST_GRACE + CLOSED_FOR
    return refused_until > now and math.floor(refused_until) <= now + longest
  end
  return counts(marks[1]) or counts(marks[2]) and not marks[3]
end

-- The answer of a call that succeeded. `former` is what the connection was before, and `evicted` are connections that
-- made room.
local function answer(call, outcome, former, evicted)
  local mine, messages = call.mine, {}
  note_delicate(mine.ttl, mine.interval)
  if former and former.groups and former.groups ~= '' then
    leave_groups(messages, now, call.user, call.id, former.groups, mine.groups)
    if former.deadline > mine.deadline then
      shorten_in_groups(messages, now, call.user, call.id, mine.groups, mine.deadline, 's')
    end
  end
  for id, each in pairs(evicted or {}) do
    leave_groups(messages, now, call.user, id, each.groups or '', '')
  end
  -- The stamp of a join must be greater than the stamps of the messages to the group.
  local stamp = mine.groups ~= '' and new_stamp() or ''
  local reply = { outcome, mine.deadline, stamp }
  for _, message in ipairs(messages) do
    reply[#reply + 1] = message
  end
  return reply
end

-- Adds a user with these connections to the index.
local function enter(call, entry, ...)
  redis.call('ZADD', INDEX, entry, call.user)
  events[#events + 1] = 'o ' .. now .. ' 0 ' .. call.user .. enter_state(now, call.user, ...)
end

-- Writes several connections of a user into the hash and the key. The key comes last: if the hash cannot be written,
-- the user stays as it was.
local function write_several(call, value, last, others, ended)
  local written = { call.id, text_of(call.mine) }
  if value ~= '*' then
    for _, connections in ipairs(others) do
      for id, each in pairs(connections) do
        if id ~= call.id then
          written[#written + 1], written[#written + 2] = id, text_of(each)
        end
      end
    end
  end
  for first = 1, #written, 2 * PART do
    redis.call('HSET', call.hash, unpack(written, first, math.min(first + 2 * PART - 1, #written)))
  end
  for _, id in ipairs(ended) do
    -- The connection of the call may be one that had ended.
    if id ~= call.id then
      redis.call('HDEL', call.hash, id)
    end
  end
  redis.call('PEXPIREAT', call.hash, as_text(last + AFTERLIFE))
  redis.call('SET', call.key, '*', 'PXAT', as_text(last))
end

-- Removes the mark of a connection that is open again, so that the mark does not count later. A connect ignores marks;
-- a ping gets past one only if the clock was set back. Returns whether the user had a mark.
local function forget_mark(closed, id)
  if redis.call('EXISTS', closed) == 0 then
    return false
  end
  redis.call('ZREM', closed, id)
  local all_closed = redis.call('ZSCORE', closed, '*')
  if all_closed then
    redis.call('ZADD', closed, all_closed, '!' .. id)
  end
  return true
end

-- Whether the user has no room for another connection. A connection that leaves makes room.
local function is_full(connections)
  local staying = 0
  for _, each in pairs(connections) do
    if each.deadline >= now and not each.left then
      staying = staying + 1
    end
  end
  return staying >= most
end

-- Removes connections that leave, the earliest deadline first, until at most `most` connections are alive. Returns the
-- removed ones.
local function make_room(connections, ended)
  local alive, leaving, evicted = tally(now, connections), {}, {}
  for id, each in pairs(connections) do
    if each.left then
      leaving[#leaving + 1] = id
    end
  end
  table.sort(leaving, function(one, other)
    return connections[one].deadline < connections[other].deadline
  end)
  for i = 1, math.min(alive - most, #leaving) do
    evicted[leaving[i]] = connections[leaving[i]]
    connections[leaving[i]] = nil
    ended[#ended + 1] = leaving[i]
  end
  return evicted
end

-- Runs a call and returns its answer.
return function(call)
  local user, value, score = call.user, call.value, call.score
  local id, own_ttl, away, groups = read_stated(call.stated)
  local mine = { own_ttl = own_ttl, away = away, groups = groups }
  mine.ttl, mine.interval = tonumber(ARGV[3]), tonumber(ARGV[4])
  if own_ttl then
    mine.ttl, mine.interval = own_ttl, scaled_interval(own_ttl, mine.ttl, mine.interval)
  end
  mine.deadline = now + mine.ttl
  call.id, call.mine = id, mine
  if not score then
    -- This detects a lost index before a grant gets its number.
    epoch()
  end
  if not value and not score and redis.call('EXISTS', call.hash, call.closed) == 0 then
    -- Nothing is known about the user.
    mine.number = number_of(grant_of_caller)
    write_only(user, call.key, id, mine, mine.deadline)
    enter(call, mine.deadline + mine.number / 4096, { mine })
    return answer(call, 'entered')
  end

  local before = redis.call('PEXPIRETIME', call.key)
  local connections, recent, ended = connections_of(now, user, call.hash, value, before, score)
  local former = connections[id]
  if former and former.left then
    if call.is_ping then
      return { 'closed' }
    end
  elseif not (former and former.deadline >= now) then
    if call.is_ping and is_closed(call.closed, id) then
      return { 'closed' }
    end
    if is_full(connections) then
      return { 'full' }
    end
  end
  former = former or recent[id]
  recent[id], connections[id] = nil, mine
  local evicted
  local alive, waiting, last = tally(now, connections)
  local _, expired = tally(now, recent)
  if alive + waiting + expired > most then
    -- Connections whose hold is over make room first, next those that are held.
    for other in pairs(recent) do
      ended[#ended + 1] = other
    end
    expired, recent = 0, {}
    if alive + waiting > most then
      for other, each in pairs(connections) do
        if each.deadline < now then
          connections[other], ended[#ended + 1] = nil, other
        end
      end
      evicted = make_room(connections, ended)
      alive, waiting, last = tally(now, connections)
    end
  end

  -- The first write is a command that Redis refuses when its memory is full. So a refused call has written nothing.
  mine.number = number_of(grant_of_caller)
  local is_alone, has_record = alive + waiting + expired == 1, false
  if is_alone then
    has_record = write_only(user, call.key, id, mine, last)
    redis.call('DEL', call.hash)
  else
    write_several(call, value, last, { connections, recent }, ended)
  end
  if score and not value then
    -- The user has a key again, so its departure is not held any more.
    redis.call('ZREM', HELD, user)
  end
  if score and not has_record then
    forget_record(user, value)
  end
  local was_closed = forget_mark(call.closed, id)

  if score then
    local time, former_number = parts(score)
    local number = is_alone and mine.number or former_number
    -- The pings of an only connection extend only the key. After its expiry, the score is all that is known of its
    -- last ping.
    local is_new_only = is_alone and value == '*'
    if not value or is_new_only or math.max(before, time) > last or number ~= former_number then
      set_score(user, before, former_number, last, number)
    end
    update_state(now, user, events, connections, recent)
    return answer(call, 'stayed', former, evicted)
  end
  local entry = last + mine.number / 4096
  if was_closed or before > last then
    -- A sweep may have read the deadline from before the user went offline by a disconnect.
    note(user, string.format('%.17g', entry))
  end
  enter(call, entry, connections, recent)
  return answer(call, 'entered', former, evicted)
end
