-- Closes one connection or all of each of some users, now or after a grace period. A user that leaves the deadline
-- index goes offline.
--
-- KEYS[10] the shortened deadlines                     ARGV[6] how long the last-seen time is kept, in ms; 0 keeps none
-- KEYS[11] the outbox                                  then of each call the userId
-- KEYS[12] the last stamp                              then of each call the connectionId; empty for all
-- then of each call the user's key                     then of each call the grace period in ms, or 0
-- then of each call the user's connections
-- then of each call the user's closed connections
-- the last of KEYS: the generations of last-seen times
-- Returns for each call {1 if the user is still online, 1 if the user went offline, when the connection ends or 0,
-- messages to groups...; see outbox.lua}, or the error of the call.
--
-- A usual call closes the only connection at once, and the connection states nothing but an id and maybe a TTL. All other
-- calls run in disconnect_any.lua, which is about all calls. `any_call` makes its functions, which takes as long as a few
-- usual calls.

-- How long the pings of a closed connection are refused, in ms; CLOSED_FOR in connections.lua.
local REFUSED_FOR = 10000

-- MOST_IN_BUCKET in last_seen.lua.
local MOST_TIMES = 100

local now = clock()
local retention = tonumber(ARGV[6])
local left = { 0, 1, 0 }

-- What usual calls need: the end of a mark; the beginning of an event; the states of users, after one of no user; whether
-- some of the users have closed connections; the newest generation of last-seen times, if it accepts times with this
-- retention now, and such a time; see last_seen.lua.
local refused_until, offline, states, some_marks, generation, age
local function prepare()
  local time = as_text(now)
  refused_until, offline = as_text(now + REFUSED_FOR), 'd ' .. time .. ' ' .. time .. ' '
  states = redis.call('HMGET', KEYS[8], '', unpack(ARGV, USERS + 1, FIRST_ARGUMENTS))
  some_marks = some_exist(CLOSED + 1, CLOSED + CALLS)
  local text = retention > 0 and redis.call('LINDEX', KEYS[#KEYS], 0) or ''
  local began, closes, kept, buckets = text:match('^(%d+) (%d+) (%d+) (%d+)$')
  closes = tonumber(closes)
  if kept == ARGV[6] and closes >= now and closes <= now + math.ceil(retention / 4) then
    generation = { name = KEYS[#KEYS] .. ':' .. began .. ':', buckets = tonumber(buckets), ends = closes + retention }
    age = as_text(now - began)
  end
end

-- Makes what disconnect_any.lua does.
local any

-- Writes a last-seen time.
local function remember(field, bucket)
  if redis.call('HSET', bucket, field, age) == 0 then
    return
  end
  local times = redis.call('HLEN', bucket)
  if times == 1 then
    redis.call('PEXPIREAT', bucket, as_text(generation.ends))
  elseif times >= MOST_TIMES then
    any = any or any_call(now)
    any.succeed_full(now, generation, retention)
  end
end

-- Takes an online user offline whose only connection this is. `is_named` says whether the connection has an id.
local function leave(i, user, id, is_named)
  local closed = KEYS[CLOSED + i]
  if some_marks and some_exist(CLOSED + i, CLOSED + i) then
    redis.call('ZREMRANGEBYSCORE', closed, '-inf', as_text(now))
    redis.call('ZREM', closed, '!' .. id)
  end
  redis.call('ZADD', closed, refused_until, id)
  if not some_marks or redis.call('PEXPIRETIME', closed) < now + REFUSED_FOR then
    redis.call('PEXPIREAT', closed, refused_until)
  end
  deleted[#deleted + 1], leaving[#leaving + 1] = KEYS[USER_KEYS + i], user
  events[#events + 1] = offline .. user
  if is_named or generation then
    local field, spread = place_of(user)
    if is_named then
      redis.call('HDEL', record_bucket(spread), field)
    end
    if generation then
      remember(field, generation.name .. spread % generation.buckets)
    end
  end
end

-- Whether the value of a user's key is of a connection with this id that states no more than a TTL.
local function is_of(value, id)
  if value:find(' ', 1, true) then
    return value:match('^%d+ ([^ \31]+)[ %d]*$') == id
  end
  return id == '1'
end

-- Runs a call and returns its answer.
local function disconnect(i)
  local user, id = ARGV[USERS + i], ARGV[FIRST_ARGUMENTS + i]
  local value, score = known_of(i, now)
  if is_whole and not repeated[i] and value and value ~= '*' and score and is_of(value, id)
    and ARGV[LAST_ARGUMENTS + i] == '0' then
    if not states then
      prepare()
    end
    if not states[i + 1] and (generation or retention == 0) then
      leave(i, user, id, value:find(' ', 1, true))
      return left
    end
  end
  any = any or any_call(now)
  return any.run({
    user = user,
    id = id,
    grace = tonumber(ARGV[LAST_ARGUMENTS + i]),
    messages = {},
    key = KEYS[USER_KEYS + i],
    hash = KEYS[HASHES + i],
    closed = KEYS[CLOSED + i],
    value = value,
    score = score,
  })
end

local answers = {}
for i = 1, CALLS do
  answers[i] = answer_of(disconnect, i)
end
write_gathered(now)
if events[1] then
  announce(now, events)
end
return answers
