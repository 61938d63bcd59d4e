-- Prelude of every script but amend.lua: the clock, the identity of the data set, and the one way to announce.
--
-- KEYS[1] the deadline index        ARGV[1] the bus channel
-- KEYS[2] the history               ARGV[2] how long the history is kept, in ms
-- KEYS[3] the epoch

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The identity of this data set: the microsecond in which it was first used.
local function epoch()
  local known = redis.call('GET', KEYS[3])
  if not known then
    local time = redis.call('TIME')
    known = time[1] .. string.format('%06d', time[2])
    redis.call('SET', KEYS[3], known)
  end
  return known
end

-- The id of the newest event; XADD trims, but never the entry it adds, so it is always there.
local function newest()
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
  return last[1] and last[1][1] or '0-0'
end

-- Appends events to the history and publishes them in one message.
-- Each is 'kind at lastSeen userId'; an entry is the id of the event before it, and that.
local function announce(now, events)
  local previous = newest()
  local lines = { epoch() }
  for i, event in ipairs(events) do
    local entry = previous .. ' ' .. event
    previous = redis.call('XADD', KEYS[2], 'MINID', now - ARGV[2], '*', 'e', entry)
    lines[i + 1] = previous .. ' ' .. entry
  end
  redis.call('PUBLISH', ARGV[1], table.concat(lines, '\n'))
end
