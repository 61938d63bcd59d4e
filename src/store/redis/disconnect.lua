-- Closes one connection or all. A user that leaves the deadline index goes offline.
--
-- KEYS[8] the user's key                   ARGV[6] userId
-- KEYS[9] the user's connections           ARGV[7] connectionId; empty for all
-- KEYS[10] the user's closed connections   ARGV[8] how long the last-seen time is kept, in ms; 0 keeps none
-- KEYS[11] the shortened deadlines
-- KEYS[12] the generations of last-seen times
-- Returns {1 if the user is still online by another connection, 1 if the user went offline}.

local now = clock()
local user, id, is_all = ARGV[6], ARGV[7], ARGV[7] == ''
local value = redis.call('GET', KEYS[8])
local before = redis.call('PEXPIRETIME', KEYS[8])
local score = redis.call('ZSCORE', KEYS[1], user)
local field, spread = place_of(user)

local function remember(at)
  keep_last_seen(now, field, spread, at, tonumber(ARGV[8]))
end

-- Makes connect.lua refuse pings that were sent before the disconnect and arrive after it.
local function mark(member)
  redis.call('ZREMRANGEBYSCORE', KEYS[10], '-inf', now)
  redis.call('ZADD', KEYS[10], now + CLOSED_FOR, member)
  redis.call('ZREM', KEYS[10], '!' .. id)
  redis.call('PEXPIRE', KEYS[10], CLOSED_FOR)
end

local connections, recent, ended = {}, {}, {}
local closed
if is_all then
  redis.call('DEL', KEYS[10])
  mark('*')
elseif value == '*' and redis.call('EXISTS', KEYS[9]) == 0 then
  -- The hash was lost. Another connection may be alive, so the user stays online until the key expires.
  mark(id)
  remember(now)
  return { 1, 0 }
else
  connections, recent, ended = connections_of(now, user, KEYS[8], KEYS[9], value, score)
  closed = connections[id]
  connections[id] = nil
  if closed then
    mark(id)
    ended[#ended + 1] = id
  elseif recent[id] then
    -- The connection had expired, and may have pinged later than the others.
    redis.call('HDEL', KEYS[9], id)
    local pinged = recent[id].deadline - recent[id].ttl
    remember(math.max(pinged, last_seen_of(field, spread, pinged)))
  end
end

local alive, waiting, last = tally(now, connections)
if alive + waiting > 0 and not closed then
  return { alive > 0 and 1 or 0, 0 }
end

if alive > 0 then
  local former_number = select(2, parts(score or 0))
  local number = former_number
  remember(now)
  -- A user without a score keeps a key that no ping matches, so the next ping enters the user into the index.
  if score and alive + waiting == 1 and not next(recent) then
    local other, each = next(connections)
    number = number_of(string.format('%.0f %.0f', each.ttl, each.interval))
    redis.call('SET', KEYS[8], value_of(number, other), 'PXAT', last)
    redis.call('DEL', KEYS[9])
    if other ~= UNNAMED then
      record_name(user, other)
    end
  else
    forget(KEYS[9], ended)
    redis.call('PEXPIREAT', KEYS[9], last + AFTERLIFE)
    redis.call('PEXPIREAT', KEYS[8], last)
  end
  if score and (before > last or number ~= former_number) then
    set_score(now, KEYS[11], user, before, former_number, last, number)
  end
  return { 1, 0 }
end

if waiting > 0 and score then
  -- After an outage another connection may still ping. The next sweep holds the departure, unless it is held already.
  remember(now)
  forget(KEYS[9], ended)
  local number = select(2, parts(score))
  if value then
    redis.call('DEL', KEYS[8])
    set_score(now, KEYS[11], user, before, number, now - 1, number)
  elseif redis.call('ZSCORE', KEYS[5], user) then
    redis.call('ZADD', KEYS[1], 'XX', longest_hold(now, connections) + number / 4096, user)
  end
  return { 0, 0 }
end

redis.call('DEL', KEYS[8], KEYS[9])
if score then
  redis.call('ZREM', KEYS[5], user)
  forget_name(user, value)
end
local left = redis.call('ZREM', KEYS[1], user)
if left == 1 then
  remember(now)
  announce(now, { 'd ' .. now .. ' ' .. now .. ' ' .. user })
end
return { 0, left }
