-- Closes one connection or all of each of some users, now or after a grace period. A user that leaves the deadline
-- index goes offline.
--
-- After announce.lua, outages.lua and states.lua, which explain KEYS[1] to KEYS[9] and ARGV[1] to ARGV[5].
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
-- A *usual* call closes the only connection at once, and the connection states nothing but an id and maybe a TTL. This
-- file has only the usual calls. disconnect_any.lua can run every call, and runs all others; see connect.lua.

-- How long the pings of a closed connection are refused, in ms; CLOSED_FOR in connections.lua.
local REFUSED_FOR = 10000

-- The maximum number of times in a hash; MOST_IN_BUCKET in last_seen.lua.
local MOST_TIMES = 100

local now = clock()
local retention = tonumber(ARGV[6])
local left = { 0, 1, 0 }

-- What the usual calls of a script call share. `prepare` sets it when the first of them needs it.
local refused_until -- until when the pings of a closed connection are refused
local offline -- the beginning of an event
local states -- the states of the users, after that of the empty userId
local some_marks -- whether any of the users has closed connections
local generation, age -- where last-seen times are written now, if possible, and such a time; see last_seen.lua
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

-- The functions that disconnect_any.lua returns, once a call has needed them.
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
    any.replace_full(now, generation, retention)
  end
end

-- Closes the only connection of an online user, which goes offline. `is_named` says whether the connection has an id.
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
  local call = call_of(i, value, score)
  call.id, call.grace, call.messages = id, tonumber(ARGV[LAST_ARGUMENTS + i]), {}
  return any.run(call)
end

local answers = answers_of(disconnect)
write_gathered(now)
if events[1] then
  announce(now, events)
end
return answers
