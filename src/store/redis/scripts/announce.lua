-- Prelude of most scripts (scripts.rs lists them): the clock, the epoch, the numbers of grants, and the announcement of
-- events.
--
-- KEYS[1] the deadline index        ARGV[1] the bus channel
-- KEYS[2] the history               ARGV[2] how long the history keeps an event, in ms
-- KEYS[3] the epoch                 ARGV[3] the TTL of the calling instance, in ms
-- KEYS[4] the grants                ARGV[4] the ping interval of the calling instance, in ms
-- KEYS[5] the held departures
-- One more of KEYS is a key that never exists. With it, a Redis Cluster runs no script while some keys of the slot are
-- on another server already.
--
-- A grant is 'TTL interval' in ms, as a connection received it with its last ping. The hash of grants gives each
-- grant a number from 1 to 4095. A score of the index is a time in whole ms plus a fraction: the number of the grant
-- of the user's only connection, in 4096ths. A double holds both exactly.

local MOST_GRANTS = 4095

-- The number of hashes with the records of only connections; see connections.lua. A part of the users has a hash tag
-- in the names of its keys and needs fewer. Redis stores up to 128 records as a listpack by default, so two million
-- records take the least memory.
local RECORD_BUCKETS = KEYS[1]:find('{', 1, true) and 1024 or 16384

local function record_bucket(spread)
  return KEYS[1] .. ':' .. spread % RECORD_BUCKETS
end

-- 96 bits of the SHA-1 of a userId, and a number that selects a bucket.
local known_places = {}
local function place_of(user)
  local known = known_places[user]
  if not known then
    local digest = redis.sha1hex(user)
    local first, second = tonumber(digest:sub(1, 8), 16), tonumber(digest:sub(9, 16), 16)
    local field = struct.pack('>I4I4I4', first, second, tonumber(digest:sub(17, 24), 16))
    known = { field, tonumber(digest:sub(25, 32), 16) }
    known_places[user] = known
  end
  return known[1], known[2]
end

-- A whole number as text. Redis takes longer to convert a number among the arguments of a command.
local function as_text(number)
  return string.format('%.0f', number)
end

-- The time of Redis, in ms.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The number of a grant. A new grant gets one.
local known_numbers = {}
local function number_of(grant)
  if known_numbers[grant] then
    return known_numbers[grant]
  end
  local known = redis.call('HGET', KEYS[4], grant)
  if known then
    known_numbers[grant] = tonumber(known)
    return known_numbers[grant]
  end
  local last = redis.call('HGET', KEYS[4], 'last')
  if not last then
    -- If only this hash was lost, the keys of users hold numbers of other grants. The new number must differ.
    local used = redis.call('ZCARD', KEYS[1]) > 1
    last = used and clock() % MOST_GRANTS or 0
  end
  local number = last % MOST_GRANTS + 1
  local replaced = redis.call('HGET', KEYS[4], number)
  if replaced then
    redis.call('HDEL', KEYS[4], replaced)
  end
  redis.call('HSET', KEYS[4], 'last', number, number, grant, grant, number)
  return number
end

-- The TTL and the interval of the grant with a number, and whether the number is known. For an unknown number, these
-- are the TTL and the interval of the calling instance.
local known_grants = {}
local function grant(number)
  local found = known_grants[number]
  if not found then
    local text = redis.call('HGET', KEYS[4], number)
    local ttl, interval = (text or ARGV[3] .. ' ' .. ARGV[4]):match('^(%d+) (%d+)$')
    found = { tonumber(ttl), tonumber(interval), text ~= false }
    known_grants[number] = found
  end
  return found[1], found[2], found[3]
end

-- The longest stall that a quiet instance may not notice, in ms; see policy.rs.
local UNNOTICED = 1200

-- How long the key `delicate` outlives a connection, in ms: a sweep re-arms the user within this time.
local DELICATE_FOR = 2000

-- The name of the key that exists while some connection is delicate: its grant does not absorb such a stall. No
-- instance is quiet while the key exists.
local function delicate_key()
  return KEYS[1]:sub(1, -10) .. 'delicate'
end

-- Writes that key if a connection with this TTL and interval is delicate. A sweep that re-arms the user writes the key
-- again. If Redis has no memory left and refuses the key, the call still succeeds.
local function note_delicate(ttl, interval)
  if (ttl - interval) * 3 / 4 < UNNOTICED then
    redis.pcall('SET', delicate_key(), '', 'PX', math.max(math.floor(ttl), 0) + DELICATE_FOR)
  end
end

-- The time of a score, and the number of the grant in its fraction; 0 without a grant.
local function parts(score)
  local time = math.floor(score)
  return time, (score - time) * 4096
end

-- Removes the records of all users, in a few ms.
local function forget_records()
  -- unpack accepts some thousand values at most.
  for first = 0, RECORD_BUCKETS - 1, 1024 do
    local buckets = {}
    for bucket = first, first + 1023 do
      buckets[#buckets + 1] = record_bucket(bucket)
    end
    redis.call('UNLINK', unpack(buckets))
  end
end

-- The identity of this data set: the time of its first use, in microseconds.
--
-- The index always has the member '' with the score +inf. If that member is missing, the index was lost, and a new
-- data set begins with an empty history. Every grant gets a new number, so that no ping matches the key of its user,
-- and each user enters the index again with the next ping. The records of only connections go with the index;
-- if the epoch was lost too, they are outdated by their old numbers.
local known_epoch
local function epoch()
  if known_epoch then
    return known_epoch
  end
  known_epoch = redis.call('GET', KEYS[3])
  local is_whole = redis.call('ZSCORE', KEYS[1], '')
  if known_epoch and is_whole then
    return known_epoch
  end
  if not is_whole then
    redis.call('UNLINK', KEYS[2], KEYS[5])
    if known_epoch then
      forget_records()
    end
    for _, field in ipairs(redis.call('HKEYS', KEYS[4])) do
      if field:find(' ') then
        redis.call('HDEL', KEYS[4], field)
      end
    end
    redis.call('ZADD', KEYS[1], '+inf', '')
  end
  local time = redis.call('TIME')
  known_epoch = time[1] .. string.format('%06d', time[2])
  redis.call('SET', KEYS[3], known_epoch)
  return known_epoch
end

-- The id of the newest event. XADD never trims the entry that it adds, so the newest event is always there.
local function newest()
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
  return last[1] and last[1][1] or '0-0'
end

-- Publishes a message. With several partitions, each has a shard channel, whose name has a hash tag.
local function publish(message)
  redis.call(ARGV[1]:find('{', 1, true) and 'SPUBLISH' or 'PUBLISH', ARGV[1], message)
end

-- Tells all instances, once in a script call, that work may be due earlier than they know: the first member of an index
-- has an earlier time, or a change of a group is under way.
local has_told = false
local function tell_nearer()
  if not has_told then
    has_told = true
    publish('nearer')
  end
end

-- Appends events to the history and publishes them in one message. An event is 'kind at lastSeen userId'. An entry is
-- the id of the entry before it, a space and the event.
local function announce(now, events)
  local lines = { epoch() }
  local previous = newest()
  for i, event in ipairs(events) do
    local entry = previous .. ' ' .. event
    if i == 1 then
      -- One trimming is enough.
      previous = redis.call('XADD', KEYS[2], 'MINID', as_text(now - ARGV[2]), '*', 'e', entry)
    else
      previous = redis.call('XADD', KEYS[2], '*', 'e', entry)
    end
    lines[i + 1] = previous .. ' ' .. entry
  end
  publish(table.concat(lines, '\n'))
end

-- Appends an entry that is no event. Readers use only its position.
local function append_mark(now)
  announce(now, { 't ' .. now .. ' 0 -' })
end
