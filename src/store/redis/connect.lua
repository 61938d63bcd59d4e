-- Opens or refreshes connections. A user that enters the deadline index goes online.
--
-- KEYS[10] the shortened deadlines          ARGV[6] the maximum number of live connections of one user
-- KEYS[11] the outbox                       then for each call
-- KEYS[12] the last stamp                     userId
-- then for each call                          what the connection states: 'connectionId TTL away groups'; see
--   the user's key                              connections.lua
--   the user's connections                    'connect' or 'ping'
--   the user's closed connections
-- Returns for each call {'entered' if the user went online, else 'stayed', the deadline of the connection, the stamp of
-- its groups or '', messages to groups...; see outbox.lua};
-- {'closed'} for a ping of a connection that leaves or was closed a moment ago; {'full'} at the maximum number of connections;
-- or the error of the call.

local now = clock()
local grant_of_caller = ARGV[3] .. ' ' .. ARGV[4]
local most = tonumber(ARGV[6])
local events = {}

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
  local mine = call.mine
  if not former and not evicted and mine.groups == '' then
    return { outcome, mine.deadline, '' }
  end
  local messages = {}
  if former and former.groups and former.groups ~= '' then
    leave_groups(messages, now, call.user, call.id, former.groups, mine.groups)
    if former.deadline > mine.deadline then
      shorten_in_groups(messages, now, call.user, call.id, mine.groups, mine.deadline, 's')
    end
  end
  for id, each in pairs(evicted or {}) do
    leave_groups(messages, now, call.user, id, each.groups or '', '')
  end
  -- The join of a group is later than a message to it.
  local stamp = mine.groups ~= '' and new_stamp() or ''
  return { outcome, mine.deadline, stamp, unpack(messages) }
end

-- Adds a user with these connections to the index.
local function enter(call, entry, ...)
  entering[#entering + 1], entering[#entering + 2] = as_text(entry), call.user
  events[#events + 1] = 'o ' .. as_text(now) .. ' 0 ' .. call.user .. enter_state(now, call.user, ...)
end

-- Writes several connections of a user into the key and the hash.
local function write_several(call, value, last, others, ended)
  redis.call('SET', call.key, '*', 'PXAT', last)
  forget(call.hash, ended)
  redis.call('HSET', call.hash, call.id, text_of(call.mine))
  if value ~= '*' then
    for _, connections in ipairs(others) do
      for id, each in pairs(connections) do
        redis.call('HSET', call.hash, id, text_of(each))
      end
    end
  end
  redis.call('PEXPIREAT', call.hash, last + AFTERLIFE)
end

-- A ping may succeed despite a mark if the clock was set back. The mark must not count later. Returns whether a
-- connection of the user was closed a moment ago.
local function forget_mark(call)
  local closed, id = call.closed, call.id
  if not call.may_have_marks or redis.call('EXISTS', closed) == 0 then
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

-- Removes the connections that leave first, until at most `most` connections are alive. Returns them.
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

-- Whether this connection of the user was closed a moment ago, and whether another one was.
local function marks_of(call)
  if not call.may_have_marks then
    return false, false
  end
  local ids = redis.call('ZRANGE', call.closed, 0, 1)
  return ids[1] ~= nil, ids[1] ~= nil and (ids[1] ~= call.id or ids[2] ~= nil)
end

-- Runs the usual call: nothing is known about the user, or only that this connection was closed a moment ago. Returns the
-- answer, or nil for another call.
local function connect_first(call)
  if call.value or call.score or call.may_have_hash and redis.call('EXISTS', call.hash) == 1 then
    return nil
  end
  local was_closed, was_other_closed = marks_of(call)
  if was_other_closed or was_closed and call.is_ping then
    return nil
  end
  local mine = call.mine
  mine.number = number_of(grant_of_caller)
  write_only(call.user, call.key, call.id, mine, mine.deadline)
  local entry = mine.deadline + mine.number / 4096
  if was_closed then
    deleted[#deleted + 1] = call.closed
    note(call.user, entry)
  end
  enter(call, entry, { mine })
  return answer(call, 'entered')
end

-- Runs one call and returns its answer.
local function connect(call)
  if call.is_repeated then
    read_again(now, call)
  end
  local user, id, mine, value, score = call.user, call.id, call.mine, call.value, call.score
  if not score then
    -- This detects a lost index before a grant gets its number.
    epoch()
  end
  local first = connect_first(call)
  if first then
    return first
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
    -- Expired connections make room.
    for other, each in pairs(connections) do
      if each.deadline < now then
        recent[other], connections[other] = each, nil
      end
    end
    for other in pairs(recent) do
      ended[#ended + 1] = other
    end
    waiting, expired, recent = 0, 0, {}
    evicted = make_room(connections, ended)
    alive, waiting, last = tally(now, connections)
  end

  -- The first write is a command that Redis refuses when its memory is full. So a refused call has written nothing.
  mine.number = number_of(grant_of_caller)
  local is_alone, has_record = alive + waiting + expired == 1, false
  if is_alone then
    has_record = write_only(user, call.key, id, mine, last)
    if call.may_have_hash then
      redis.call('DEL', call.hash)
    end
  else
    write_several(call, value, last, { connections, recent }, ended)
  end
  if score and not has_record then
    forget_record(user, value)
  end
  local was_closed = forget_mark(call)

  if score then
    if not value then
      redis.call('ZREM', HELD, user)
    end
    local time, former_number = parts(score)
    local number = is_alone and mine.number or former_number
    -- The pings of an only connection extend only the key. The score is then all that is known of its last ping.
    local is_new_only = is_alone and value == '*'
    if not value or is_new_only or math.max(before, time) > last or number ~= former_number then
      set_score(user, before, former_number, last, number)
    end
    update_state(now, user, events, connections, recent)
    return answer(call, 'stayed', former, evicted)
  end
  local entry = last + mine.number / 4096
  if was_closed or before > last then
    -- A sweep may have read the deadline of the time online before, which ended with a disconnect.
    note(user, entry)
  end
  enter(call, entry, connections, recent)
  return answer(call, 'entered', former, evicted)
end

local calls, answers = read_calls(), {}
local some_hash, some_marks = some_exist(calls, 'hash', 'closed'), false
if some_hash then
  some_marks = some_exist(calls, 'closed')
  some_hash = not some_marks or some_exist(calls, 'hash')
end
local ttl, interval = tonumber(ARGV[3]), tonumber(ARGV[4])
for i, call in ipairs(calls) do
  local id, own_ttl, away, groups = read_stated(call.first)
  local mine = {
    number = 0,
    ttl = own_ttl or ttl,
    interval = own_ttl and scaled_interval(own_ttl, ttl, interval) or interval,
    own_ttl = own_ttl or false,
    away = away,
    groups = groups,
    deadline = now + (own_ttl or ttl),
  }
  call.id, call.mine, call.is_ping = id, mine, call.second == 'ping'
  call.may_have_hash, call.may_have_marks = some_hash or call.is_repeated, some_marks or call.is_repeated
  answers[i] = answer_of(connect, call)
end
write_gathered(now)
if events[1] then
  announce(now, events)
end
return answers
