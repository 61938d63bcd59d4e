-- Opens or refreshes connections. A user that enters the deadline index goes online.
--
-- KEYS[8] the shortened deadlines           ARGV[6] the maximum number of live connections of one user
-- then for each call                        then for each call
--   the user's key                            userId
--   the user's connections                    connectionId
--   the user's closed connections             'connect' or 'ping'
-- Returns for each call {'entered' if the user went online, else 'stayed', the deadline of the connection};
-- {'closed'} for a ping of a connection that was closed a moment ago; {'full'} at the maximum number of connections;
-- or the error of the call.

local now = clock()
local most = tonumber(ARGV[6])
-- This detects a lost index before a grant gets its number.
epoch()

local events = {}

-- Whether a mark forbids pings of a connection. A mark too far in the future is from before the clock was set back.
local function is_closed(closed, id)
  local marks = redis.call('ZMSCORE', closed, id, '*', '!' .. id)
  local counts = function(mark)
    return mark and tonumber(mark) > now and tonumber(mark) <= now + CLOSED_FOR
  end
  return counts(marks[1]) or counts(marks[2]) and not marks[3]
end

-- Writes the state of a user after a call: one connection in the key, or several in the hash.
local function write(call, value, is_alone, last, others, ended)
  if is_alone then
    redis.call('SET', call.key, value_of(call.mine.number, call.id), 'PXAT', last)
    redis.call('DEL', call.hash)
    return
  end
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

-- Runs one call and returns its answer.
local function connect(call)
  local user, id, mine = call.user, call.id, call.mine
  local value = redis.call('GET', call.key)
  local before = redis.call('PEXPIRETIME', call.key)
  local score = redis.call('ZSCORE', KEYS[1], user)
  local connections, recent, ended = connections_of(now, user, call.key, call.hash, value, score)
  local former = connections[id]
  if not (former and former.deadline >= now) then
    if call.is_ping and is_closed(call.closed, id) then
      return { 'closed' }
    end
    if tally(now, connections) >= most then
      return { 'full' }
    end
  end
  recent[id], connections[id] = nil, mine
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
  end

  -- The first write is a command that Redis refuses when its memory is full. So a refused call has written nothing.
  mine.number = number_of(ARGV[3] .. ' ' .. ARGV[4])
  local is_alone = alive + waiting + expired == 1
  write(call, value, is_alone, last, { connections, recent }, ended)
  if is_alone and id ~= UNNAMED then
    record_name(user, id)
  elseif score then
    forget_name(user, value)
  end
  local was_closed = forget_mark(call.closed, id)

  if score then
    if not value then
      redis.call('ZREM', KEYS[5], user)
    end
    local time, former_number = parts(score)
    local number = is_alone and mine.number or former_number
    if not value or math.max(before, time) > last or number ~= former_number then
      set_score(now, KEYS[8], user, before, former_number, last, number)
    end
    return { 'stayed', mine.deadline }
  end
  local entry = last + mine.number / 4096
  if was_closed or before > last then
    -- A sweep may have read the deadline of the time online before, which ended with a disconnect.
    note(now, KEYS[8], user, entry)
  end
  redis.call('ZADD', KEYS[1], entry, user)
  events[#events + 1] = 'o ' .. now .. ' 0 ' .. user
  return { 'entered', mine.deadline }
end

local answers = {}
for i = 7, #ARGV, 3 do
  local call = { user = ARGV[i], id = ARGV[i + 1], is_ping = ARGV[i + 2] == 'ping' }
  call.key, call.hash, call.closed = KEYS[i + 2], KEYS[i + 3], KEYS[i + 4]
  call.mine = { ttl = tonumber(ARGV[3]), interval = tonumber(ARGV[4]) }
  call.mine.deadline = now + call.mine.ttl
  answers[#answers + 1] = answer_of(connect, call)
end
if events[1] then
  announce(now, events)
end
return answers
