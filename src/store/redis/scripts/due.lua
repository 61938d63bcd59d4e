-- Begins a sweep: finds out whether users are due, whether the clock was set back and whether there was an outage,
-- and trims the history to its maximum size.
--
-- After announce.lua, outages.lua and states.lua, which explain KEYS[1] to KEYS[9] and ARGV[1] to ARGV[5].
-- KEYS[10] the place of the recheck      ARGV[6] the maximum size of the history, in bytes
-- KEYS[11] the shortened deadlines       ARGV[7] the number of partitions, as text
-- KEYS[12] the number of partitions, as text   ARGV[8] another text that is accepted
-- KEYS[13] the groups with seats; see groups.lua
-- KEYS[14] the outbox; see outbox.lua
-- Returns {'layout', the text} if the store has another text. Then nothing was done. Else
--         {now, epoch, newest event, the number of announced users whose departure is not held, the number of the
--          caller's grant, the first time in the index or -1, how many users are overdue, the place of the recheck or
--          -1, when an instance was last ready to serve or -1, the time of the next change without a call or -1, the
--          time of the next look at a group or -1, the time of the first message in the outbox or -1, 1 if a departure
--          is held or a connection is delicate (see announce.lua), else 0}.

local layout = redis.call('GET', KEYS[12])
if layout and layout ~= ARGV[7] and layout ~= ARGV[8] then
  return { 'layout', layout }
end
if not layout then
  -- The data were lost.
  redis.call('SET', KEYS[12], ARGV[7])
end

-- How far the clock may go back without a recheck, in ms.
local STEP = 100

-- The longest time without an entry in the history of one of several partitions, in ms.
local ENTRY_INTERVAL = 86400000

-- The maximum size of an event in the history, with its share of the data structure, in bytes: that of 100 users with
-- the longest ids that join a group.
local MOST_EVENT = 13312

local now = clock()
local swept = note_outage(now)
if swept and swept > now + STEP then
  -- The clock was set back. Every stored time may be too far in the future, so a recheck looks at all users.
  move_outages_back(now)
  redis.call('DEL', KEYS[11])
  redis.call('SET', KEYS[10], '0')
  -- The look at a group, and the messages in the outbox, are due at once.
  for i = 13, 14 do
    if redis.call('EXISTS', KEYS[i]) == 1 then
      redis.call('ZUNIONSTORE', KEYS[i], 1, KEYS[i], 'WEIGHTS', 0)
    end
  end
  tell_nearer()
end

local most = tonumber(ARGV[6])
local length = redis.call('XLEN', KEYS[2])
if length * MOST_EVENT > most then
  local bytes = redis.pcall('MEMORY', 'USAGE', KEYS[2], 'SAMPLES', '20')
  bytes = type(bytes) == 'number' and bytes or length * MOST_EVENT
  if bytes > most then
    -- The newest event stays, because a history without it looks like a lost one.
    redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', math.max(math.floor(length * most / bytes), 1))
  end
end

-- The first sweep writes the field '' into the hash of states, and the field 'states' into the hash of grants. If only
-- the first of these is missing, the hash of states was lost. Then a new data set begins, which resets the streams, and
-- a recheck finds the users that are away.
local knew_states = redis.call('HSETNX', KEYS[4], 'states', 1) == 0
if redis.call('HSETNX', STATES, '', '') == 1 and knew_states then
  redis.call('DEL', KEYS[3])
  redis.call('SET', KEYS[10], '0')
end

local known = epoch()
local latest = newest()
if ARGV[7]:match('^%S+') ~= '1:1' and latest ~= '0-0' and now - latest:match('%d+') > ENTRY_INTERVAL then
  -- A cursor has the time between the newest events of the partitions, so a silent partition would make it long.
  append_mark(now)
  latest = newest()
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local is_time = first and first ~= 'inf'
local held = redis.call('ZCARD', KEYS[5])
redis.call('SET', KEYS[6], now)
return {
  now,
  known,
  latest,
  redis.call('ZCARD', KEYS[1]) - 1 - held,
  number_of(ARGV[3] .. ' ' .. ARGV[4]),
  is_time and (parts(first)) or -1,
  redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. now),
  redis.call('GET', KEYS[10]) or '-1',
  swept or -1,
  (redis.call('ZRANGE', CHANGES, 0, 0, 'WITHSCORES')[2] or '-1'):match('^-?%d+'),
  (redis.call('ZRANGE', KEYS[13], 0, 0, 'WITHSCORES')[2] or '-1'):match('^-?%d+'),
  (redis.call('ZRANGE', KEYS[14], 0, 0, 'WITHSCORES')[2] or '-1'):match('^-?%d+'),
  (held > 0 or redis.call('EXISTS', delicate_key()) == 1) and 1 or 0,
}
