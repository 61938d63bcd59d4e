-- Opens or refreshes a connection. A user that enters the deadline index goes online.
--
-- KEYS[8] the user's key                   ARGV[6] userId
-- KEYS[9] the user's connections           ARGV[7] connectionId
-- KEYS[10] the user's closed connections   ARGV[8] 'connect' or 'ping'
-- KEYS[11] the shortened deadlines         ARGV[9] the maximum number of live connections of one user
-- Returns {'entered' if the user went online, else 'stayed', the deadline of the connection};
-- {'closed'} for a ping of a connection that was closed a moment ago; {'full'} at the maximum number of connections.

local now = clock()
local user, id, is_ping = ARGV[6], ARGV[7], ARGV[8] == 'ping'
local mine = { ttl = tonumber(ARGV[3]), interval = tonumber(ARGV[4]) }
mine.deadline = now + mine.ttl

-- Adds the user to the index, unless it is there already.
local function enter(score)
  if redis.call('ZADD', KEYS[1], 'NX', score, user) == 0 then
    return { 'stayed', mine.deadline }
  end
  announce(now, { 'o ' .. now .. ' 0 ' .. user })
  return { 'entered', mine.deadline }
end

-- Whether a mark forbids pings of this connection. A mark too far in the future is from before the clock was set
-- back.
local function is_closed()
  local marks = redis.call('ZMSCORE', KEYS[10], id, '*', '!' .. id)
  local counts = function(mark)
    return mark and tonumber(mark) > now and tonumber(mark) <= now + CLOSED_FOR
  end
  return counts(marks[1]) or counts(marks[2]) and not marks[3]
end

local value = redis.call('GET', KEYS[8])
local before = redis.call('PEXPIRETIME', KEYS[8])

local score = redis.call('ZSCORE', KEYS[1], user)
if not score then
  -- This detects a lost index before a grant gets its number.
  epoch()
end
local connections, recent, ended = connections_of(now, user, KEYS[8], KEYS[9], value, score)
local former = connections[id]
if not (former and former.deadline >= now) then
  if is_ping and is_closed() then
    return { 'closed' }
  end
  if tally(now, connections) >= tonumber(ARGV[9]) then
    return { 'full' }
  end
end
recent[id], connections[id] = nil, mine
local alive, waiting, last = tally(now, connections)
local _, expired = tally(now, recent)
if alive + waiting + expired > tonumber(ARGV[9]) then
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

-- The first write is a command that Redis refuses when its memory is full. So a refused script has written nothing.
mine.number = number_of(ARGV[3] .. ' ' .. ARGV[4])
local is_alone = alive + waiting + expired == 1
if is_alone then
  redis.call('SET', KEYS[8], value_of(mine.number, id), 'PXAT', last)
  redis.call('DEL', KEYS[9])
else
  redis.call('SET', KEYS[8], '*', 'PXAT', last)
  forget(KEYS[9], ended)
  redis.call('HSET', KEYS[9], id, text_of(mine))
  if value ~= '*' then
    for _, others in ipairs({ connections, recent }) do
      for other, each in pairs(others) do
        redis.call('HSET', KEYS[9], other, text_of(each))
      end
    end
  end
  redis.call('PEXPIREAT', KEYS[9], last + AFTERLIFE)
end
if is_alone and id ~= UNNAMED then
  record_name(user, id)
elseif score then
  forget_name(user, value)
end

local was_closed = redis.call('EXISTS', KEYS[10]) == 1
if was_closed then
  -- A ping may succeed despite a mark if the clock was set back. The mark must not count later.
  redis.call('ZREM', KEYS[10], id)
  local all_closed = redis.call('ZSCORE', KEYS[10], '*')
  if all_closed then
    redis.call('ZADD', KEYS[10], all_closed, '!' .. id)
  end
end

local number = mine.number
if score then
  if not value then
    redis.call('ZREM', KEYS[5], user)
  end
  local time, former_number = parts(score)
  number = is_alone and number or former_number
  if not value or math.max(before, time) > last or number ~= former_number then
    set_score(now, KEYS[11], user, before, former_number, last, number)
  end
end
local entry = last + number / 4096
if not score and (was_closed or before > last) then
  -- A sweep may have read the deadline of the time online before, which ended with a disconnect.
  note(now, KEYS[11], user, entry)
end
return enter(entry)
