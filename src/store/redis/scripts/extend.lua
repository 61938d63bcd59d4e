-- The usual pings: extends each connection that has the grant of the calling instance, if the key of its user shows
-- that it is alive.
--
-- KEYS the keys of users; those of unnamed connections that state nothing come last
--
-- ARGV[1] the number of the grant       ARGV[4] how the key of each user begins
-- ARGV[2] the TTL of the grant, in ms   ARGV[5] how the key of the connections of each user begins
-- ARGV[3] the interval of the grant, in ms
-- ARGV[6] how many pings have a TTL of their own; they come first
-- ARGV[7...] for each ping but those of unnamed connections that state nothing, what the key holds if the connection
--            is the only one; see connections.lua
--
-- Returns the indices, from 1, of the pings that changed nothing. connect.lua runs these pings.
--
-- The hash of connections belongs to the same user as the key, so it is in the same slot, although it is not in KEYS.

-- How often the ping of one of several connections runs connect.lua, which extends the hash and removes old
-- connections from it, in ms. This is shorter than the time by which the hash outlives the key; see connections.lua.
local REVIEW = 1800000

local number, ttl = ARGV[1], ARGV[2]

-- The time of Redis, in ms.
local now

-- Extends one of several connections of a user: the key holds '*', and the hash has each connection. `stated` is what
-- the connection states, `own_ttl` the TTL among it.
local function extend_one_of_several(key, stated, own_ttl)
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  local id, away, groups = '1', '', ''
  if stated then
    id, away, groups = stated:match('^%d+ ([^ \31]+)[ %d]*(%a*)(.*)$')
  end
  local ttl, interval = ttl, ARGV[3]
  if own_ttl then
    -- As scaled_interval in connections.lua.
    interval = string.format('%.0f', math.max(math.floor(own_ttl * interval / ttl), 1))
    ttl = own_ttl
  end
  local grant = ' ' .. ttl .. ' ' .. interval .. ' ' .. number .. (away ~= '' and ' away' or '') .. groups
  local last = now + ttl
  local deadline = string.format('%.0f', last)
  local hash = ARGV[5] .. key:sub(#ARGV[4] + 1)
  local text = redis.call('HGET', hash, id)
  if not text or text:sub(-#grant) ~= grant then
    return false
  end
  local former = tonumber(text:sub(1, -1 - #grant))
  -- A connection that has expired may be closed. If the deadline of this one gets nearer, that of the user may, too.
  if former < last - ttl or former > last or math.floor(former / REVIEW) ~= math.floor(last / REVIEW) then
    return false
  end
  redis.call('HSET', hash, id, deadline .. grant)
  redis.call('PEXPIREAT', key, deadline, 'GT')
  return true
end

-- What each key holds. For several keys, one command takes less time than one for each.
local held = KEYS[2] and redis.call('MGET', unpack(KEYS)) or { redis.call('GET', KEYS[1]) }

local missed = {}
local with_own_ttl = tonumber(ARGV[6])
for i, key in ipairs(KEYS) do
  local stated = ARGV[6 + i]
  local own_ttl = i <= with_own_ttl and stated:match('^%d+ [^ ]+ (%d+)')
  if held[i] == (stated or number) then
    redis.call('PEXPIRE', key, own_ttl or ttl)
  elseif held[i] ~= '*' or not extend_one_of_several(key, stated, own_ttl) then
    missed[#missed + 1] = i
  end
end
return missed
